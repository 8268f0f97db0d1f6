"""What a user of the official OpenAI client relies on."""

import json
import openai

import checks
from checks import CAPITAL
from city import City

WEATHER_TOOL = {
    "type": "function",
    "function": {"name": checks.TOOL, "description": "Tells the weather", "parameters": checks.WEATHER, "strict": True},
}
ASK = [{"role": "user", "content": checks.WEATHER_QUESTION}]


def client_of(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base_url}/v1", api_key="not-needed")


def root(client: openai.OpenAI) -> str:
    return str(client.base_url).removesuffix("/v1/")


def models_are_listed(client: openai.OpenAI, model: str) -> None:
    assert client.models.list().data[0].id == model
    assert client.models.retrieve(model).id == model


def a_chat_names_paris(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=32)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def a_streamed_chat_says_the_same(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=32)
    stream = client.chat.completions.create(
        model=model,
        messages=CAPITAL,
        temperature=0,
        max_completion_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content, text
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == ["stop"], reasons
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks[-1]
    assert len({c.id for c in chunks}) == 1


def the_stream_helper_works(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=CAPITAL, temperature=0, max_tokens=32) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert "Paris" in final.choices[0].message.content, final


def text_parts_are_taken(client: openai.OpenAI, model: str) -> None:
    parts = [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of France?"}]
    messages = [CAPITAL[0], {"role": "user", "content": parts}]
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=32)
    assert "Paris" in answer.choices[0].message.content, answer


def completions_work(client: openai.OpenAI, model: str) -> None:
    arguments = dict(model=model, prompt="The capital of France is", temperature=0, max_tokens=8)
    whole = client.completions.create(**arguments)
    assert "Paris" in whole.choices[0].text, whole
    streamed = "".join(c.choices[0].text for c in client.completions.create(stream=True, **arguments) if c.choices)
    assert streamed == whole.choices[0].text, streamed


def logprobs_are_given(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=CAPITAL, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens, tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token, "greedy takes the likeliest"
        assert token.logprob <= 0


def a_tool_that_must_be_called_is_called_and_its_result_taken(client: openai.OpenAI, model: str) -> None:
    named = {"type": "function", "function": {"name": checks.TOOL}}
    first = client.chat.completions.create(model=model, messages=ASK, tools=[WEATHER_TOOL], tool_choice=named)
    assert first.choices[0].finish_reason == "tool_calls", first
    [call] = first.choices[0].message.tool_calls
    assert call.function.name == checks.TOOL, call
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), call
    result = {"role": "tool", "tool_call_id": call.id, "content": checks.TOOL_SAYS}
    history = [*ASK, first.choices[0].message, result]
    then = client.chat.completions.create(
        model=model, messages=history, tools=[WEATHER_TOOL], tool_choice="none", max_tokens=16
    )
    assert then.choices[0].message.content and not then.choices[0].message.tool_calls, then


def a_model_that_chooses_calls_and_goes_on_streamed_and_whole(_: openai.OpenAI, __: str) -> None:
    client, model = checks.scripted(client_of)
    whole = client.chat.completions.create(model=model, messages=ASK, tools=[WEATHER_TOOL])
    [call] = whole.choices[0].message.tool_calls
    with client.chat.completions.stream(model=model, messages=ASK, tools=[WEATHER_TOOL]) as stream:
        pieces = [e.arguments_delta for e in stream if e.type == "tool_calls.function.arguments.delta"]
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == whole.choices[0].finish_reason == "tool_calls", streamed
    assert "".join(pieces) == call.function.arguments, pieces
    assert streamed.message.tool_calls[0].function.parsed_arguments == {"city": "Paris"}, streamed
    result = {"role": "tool", "tool_call_id": call.id, "content": checks.TOOL_SAYS}
    history = [*ASK, whole.choices[0].message, result]
    then = client.chat.completions.create(model=model, messages=history, tools=[WEATHER_TOOL])
    assert then.choices[0].message.content == checks.SCRIPTED_TOLD, then


def an_answer_is_read_into_a_type(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=CAPITAL, response_format=City, max_tokens=200)
    assert isinstance(answer.choices[0].message.parsed, City), answer


def errors_are_of_the_right_class(client: openai.OpenAI, model: str) -> None:
    with checks.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=CAPITAL, temperature=9)
    assert caught.error.param == "temperature", caught.error
    with checks.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=CAPITAL)
    assert caught.error.code == "model_not_found", caught.error
    with checks.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=CAPITAL, n=17)
    assert caught.error.param == "n" and "'n'" in caught.error.message, caught.error
    with checks.full_until_refused(root(client)), checks.raises(openai.RateLimitError) as caught:
        client.with_options(max_retries=0).chat.completions.create(model=model, messages=CAPITAL)
    assert caught.error.response.headers["retry-after"], caught.error.response.headers


def a_parked_server_is_an_internal_server_error(client: openai.OpenAI, model: str) -> None:
    # The official client has no class of its own for 503; with no retries it raises at once.
    with checks.parked(root(client)), checks.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=0).chat.completions.create(model=model, messages=CAPITAL)
    assert caught.error.status_code == 503, caught.error
    assert caught.error.response.headers["retry-after"], caught.error.response.headers
    assert caught.error.request_id, "no x-request-id"


def what_is_refused_for_a_while_is_tried_again(client: openai.OpenAI, model: str) -> None:
    for refusing in (checks.draining_until_refused, checks.full_until_refused):
        with refusing(root(client)):
            answer = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=32)
        assert "Paris" in answer.choices[0].message.content, answer


def a_stream_that_is_closed_is_cancelled(client: openai.OpenAI, model: str) -> None:
    with checks.cancelled(root(client)):
        messages = [{"role": "user", "content": checks.LONG}]
        stream = client.chat.completions.create(model=model, messages=messages, stream=True, max_tokens=4000)
        assert next(iter(stream)).choices, "nothing came"
        stream.close()


if __name__ == "__main__":
    checks.main(
        client_of,
        [
            models_are_listed,
            a_chat_names_paris,
            a_streamed_chat_says_the_same,
            the_stream_helper_works,
            text_parts_are_taken,
            completions_work,
            logprobs_are_given,
            a_tool_that_must_be_called_is_called_and_its_result_taken,
            a_model_that_chooses_calls_and_goes_on_streamed_and_whole,
            an_answer_is_read_into_a_type,
            errors_are_of_the_right_class,
            a_parked_server_is_an_internal_server_error,
            what_is_refused_for_a_while_is_tried_again,
            a_stream_that_is_closed_is_cancelled,
        ],
    )
