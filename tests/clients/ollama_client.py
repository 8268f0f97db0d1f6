"""What a user of the official Ollama client relies on."""

import ollama

import checks
from checks import CAPITAL
from city import City

GREEDY = {"temperature": 0, "num_predict": 32, "num_ctx": 4096}


def client_of(base_url: str) -> ollama.Client:
    return ollama.Client(host=base_url)


def root(client: ollama.Client) -> str:
    return str(client._client.base_url).rstrip("/")


def get_weather(city: str) -> str:
    """Tells the weather.

    Args:
      city: The city
    """
    assert city == "Paris", city
    return checks.TOOL_SAYS


def a_chat_names_paris(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, CAPITAL, options=GREEDY)
    assert "Paris" in answer.message.content, answer
    assert (answer.done, answer.done_reason) == (True, "stop"), answer
    assert answer.eval_count > 0 and answer.prompt_eval_count > 0, answer
    assert answer.total_duration >= answer.eval_duration > 0, answer


def a_streamed_chat_says_the_same(client: ollama.Client, model: str) -> None:
    whole = client.chat(model, CAPITAL, options=GREEDY)
    parts = list(client.chat(model, CAPITAL, options=GREEDY, stream=True))
    text = "".join(part.message.content for part in parts)
    assert text == whole.message.content, text
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def a_prompt_is_answered(client: ollama.Client, model: str) -> None:
    system, prompt = (message["content"] for message in CAPITAL)
    answer = client.generate(model, prompt, system=system, options=GREEDY)
    assert "Paris" in answer.response, answer
    raw = client.generate(model, "The capital of France is", raw=True, options=GREEDY)
    assert "Paris" in raw.response, raw


def an_answer_is_read_into_a_type(client: ollama.Client, model: str) -> None:
    options = {**GREEDY, "num_predict": 200}
    answer = client.chat(model, CAPITAL, options=options, format=City.model_json_schema())
    assert City.model_validate_json(answer.message.content), answer


def a_model_that_chooses_calls_and_goes_on_streamed_and_whole(_: ollama.Client, __: str) -> None:
    # Ollama's API has no choice of a tool that could be forced on a model.
    client, model = checks.scripted(client_of)
    history = [{"role": "user", "content": checks.WEATHER_QUESTION}]
    whole = client.chat(model, history, tools=[get_weather])
    parts = list(client.chat(model, history, tools=[get_weather], stream=True))
    [streamed] = [call for part in parts for call in part.message.tool_calls or []]
    [call] = whole.message.tool_calls
    assert call.function == streamed.function, (call, streamed)
    result = get_weather(**call.function.arguments)
    history += [whole.message, {"role": "tool", "tool_name": call.function.name, "content": result}]
    then = client.chat(model, history, tools=[get_weather])
    assert then.message.content == checks.SCRIPTED_TOLD, then


def tools_are_shown_with_their_calls_and_results(client: ollama.Client, model: str) -> None:
    plain = client.chat(model, CAPITAL, options=GREEDY)
    shown = client.chat(model, CAPITAL, options=GREEDY, tools=[get_weather])
    assert shown.prompt_eval_count > plain.prompt_eval_count, (plain, shown)
    call = {"function": {"name": get_weather.__name__, "arguments": {"city": "Paris"}}}
    result = {"role": "tool", "tool_name": get_weather.__name__, "content": get_weather("Paris")}
    said = CAPITAL + [{"role": "assistant", "content": "", "tool_calls": [call]}, result]
    then = client.chat(model, said, options=GREEDY, tools=[get_weather])
    assert then.prompt_eval_count > shown.prompt_eval_count and then.done, then


def models_are_listed_shown_and_running(client: ollama.Client, model: str) -> None:
    [listed] = client.list().models
    assert listed.model == f"{model}:latest" and len(listed.digest) == 64 and listed.size > 0, listed
    shown = client.show(listed.model)
    assert shown.details.format == "gguf" and "completion" in shown.capabilities, shown
    assert shown.modelinfo[f"{shown.details.family}.context_length"] > 0, shown
    assert [running.model for running in client.ps().models] == [listed.model]
    assert "Paris" in client.chat(listed.model, CAPITAL, options=GREEDY).message.content


def errors_are_raised(client: ollama.Client, model: str) -> None:
    with checks.raises(ollama.ResponseError) as caught:
        client.chat("no-such-model", CAPITAL)
    assert caught.error.status_code == 404 and "no-such-model" in caught.error.error, caught.error
    with checks.raises(ollama.ResponseError) as caught:
        client.chat(model, CAPITAL, options={"temperature": 9})
    assert caught.error.status_code == 400 and "temperature" in caught.error.error, caught.error
    with checks.full_until_refused(root(client)), checks.raises(ollama.ResponseError) as caught:
        client.chat(model, CAPITAL)
    assert caught.error.status_code == 429, caught.error
    with checks.parked(root(client)), checks.raises(ollama.ResponseError) as caught:
        client.chat(model, CAPITAL)
    assert caught.error.status_code == 503, caught.error


def a_stream_that_is_left_is_cancelled(client: ollama.Client, model: str) -> None:
    with checks.cancelled(root(client)):
        parts = client.chat(model, [{"role": "user", "content": checks.LONG}], options={"num_predict": 4000}, stream=True)
        assert next(parts), "nothing came"
        parts.close()


if __name__ == "__main__":
    checks.main(
        client_of,
        [
            a_chat_names_paris,
            a_streamed_chat_says_the_same,
            a_prompt_is_answered,
            an_answer_is_read_into_a_type,
            a_model_that_chooses_calls_and_goes_on_streamed_and_whole,
            tools_are_shown_with_their_calls_and_results,
            models_are_listed_shown_and_running,
            errors_are_raised,
            a_stream_that_is_left_is_cancelled,
        ],
    )
