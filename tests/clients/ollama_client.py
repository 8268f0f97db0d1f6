"""What a user of the official Ollama client relies on, against a started server: `ollama_client.py BASE_URL`."""

import json
import sys

import ollama

import checks

# A model as small as the starter model needs to be told what it is, or it answers in a French of its own.
CAPITAL = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
GREEDY = {"temperature": 0, "num_predict": 32, "num_ctx": 4096}


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


def an_answer_has_the_form_that_is_asked_for(client: ollama.Client, model: str) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    answer = client.chat(model, CAPITAL, options=GREEDY, format=schema)
    assert json.loads(answer.message.content)["city"] in ("Paris", "Rome"), answer


def tell_about(city: str) -> str:
    """Tells about a city.

    Args:
        city: its name
    """
    return f"{city} is called the city of light."


def tools_are_shown_with_their_calls_and_results(client: ollama.Client, model: str) -> None:
    plain = client.chat(model, CAPITAL, options=GREEDY)
    shown = client.chat(model, CAPITAL, options=GREEDY, tools=[tell_about])
    assert shown.prompt_eval_count > plain.prompt_eval_count, (plain, shown)
    call = {"function": {"name": "tell_about", "arguments": {"city": "Paris"}}}
    result = {"role": "tool", "tool_name": "tell_about", "content": tell_about("Paris")}
    said = CAPITAL + [{"role": "assistant", "content": "", "tool_calls": [call]}, result]
    then = client.chat(model, said, options=GREEDY, tools=[tell_about])
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


def main() -> int:
    base_url = sys.argv[1].rstrip("/")
    model = checks.wait_until_started(base_url)
    return checks.run(
        ollama.Client(host=base_url),
        model,
        [
            a_chat_names_paris,
            a_streamed_chat_says_the_same,
            a_prompt_is_answered,
            an_answer_has_the_form_that_is_asked_for,
            tools_are_shown_with_their_calls_and_results,
            models_are_listed_shown_and_running,
            errors_are_raised,
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
