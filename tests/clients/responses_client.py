"""What a user of the official OpenAI client's Responses API relies on."""

import json

import openai

import checks
from city import City
from openai_client import client_of, root

ASK = dict(instructions=checks.SYSTEM, input=checks.QUESTION, temperature=0, max_output_tokens=32)
WEATHER_TOOL = {
    "type": "function",
    "name": checks.TOOL,
    "description": "Tells the weather",
    "parameters": checks.WEATHER,
    "strict": True,
}
QUESTION = [{"role": "user", "content": checks.WEATHER_QUESTION}]


def a_response_names_paris(client: openai.OpenAI, model: str) -> None:
    response = client.responses.create(model=model, **ASK)
    assert "Paris" in response.output_text, response
    assert (response.status, response.error) == ("completed", None), response
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens, usage


def a_streamed_response_says_the_same(client: openai.OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, **ASK)
    with client.responses.stream(model=model, **ASK) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole.output_text, text
    assert final.usage.output_tokens == whole.usage.output_tokens, final


def a_response_is_gone_on_with_and_forgotten(client: openai.OpenAI, model: str) -> None:
    first = client.responses.create(model=model, **ASK)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    again = {**ASK, "input": "Say that again.", "previous_response_id": first.id}
    second = client.responses.create(model=model, **again)
    assert second.usage.input_tokens > first.usage.input_tokens, (first, second)
    client.responses.delete(first.id)
    with checks.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with checks.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, **again)
    assert caught.error.code == "previous_response_not_found", caught.error


def an_answer_that_is_cut_says_so(client: openai.OpenAI, model: str) -> None:
    cut = client.responses.create(model=model, **{**ASK, "max_output_tokens": 2})
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", cut


def a_tool_that_must_be_called_is_called_and_its_result_taken(client: openai.OpenAI, model: str) -> None:
    named = {"type": "function", "name": checks.TOOL}
    first = client.responses.create(model=model, input=QUESTION, tools=[WEATHER_TOOL], tool_choice=named)
    [call] = first.output
    assert (call.type, call.name) == ("function_call", checks.TOOL), call
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome"), call
    result = {"type": "function_call_output", "call_id": call.call_id, "output": checks.TOOL_SAYS}
    then = client.responses.create(
        model=model,
        input=[*QUESTION, call.model_dump(), result],
        tools=[WEATHER_TOOL],
        tool_choice="none",
        max_output_tokens=16,
    )
    assert then.output_text, then


def a_model_that_chooses_calls_and_goes_on_streamed_and_whole(_: openai.OpenAI, __: str) -> None:
    client, model = checks.scripted(client_of)
    with client.responses.stream(model=model, input=QUESTION, tools=[WEATHER_TOOL]) as stream:
        pieces = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        streamed = stream.get_final_response()
    whole = client.responses.create(model=model, input=QUESTION, tools=[WEATHER_TOOL])
    [call] = whole.output
    assert "".join(pieces) == streamed.output[0].arguments == call.arguments, (pieces, call)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": checks.TOOL_SAYS}
    then = client.responses.create(model=model, input=[result], previous_response_id=whole.id, tools=[WEATHER_TOOL])
    assert then.output_text == checks.SCRIPTED_TOLD, then


def an_answer_is_read_into_a_type(client: openai.OpenAI, model: str) -> None:
    response = client.responses.parse(model=model, input=checks.QUESTION, text_format=City, max_output_tokens=200)
    assert isinstance(response.output_parsed, City), response


def a_prompt_that_is_too_long_is_told_by_its_code(client: openai.OpenAI, model: str) -> None:
    with checks.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, **{**ASK, "input": "long " * 20_000})
    assert caught.error.code == "context_length_exceeded", caught.error


def a_stream_that_is_closed_is_cancelled(client: openai.OpenAI, model: str) -> None:
    with checks.cancelled(root(client)):
        stream = client.responses.create(model=model, input=checks.LONG, stream=True, max_output_tokens=4000)
        for event in stream:
            if event.type == "response.output_text.delta":
                break
        stream.close()


if __name__ == "__main__":
    checks.main(
        client_of,
        [
            a_response_names_paris,
            a_streamed_response_says_the_same,
            a_response_is_gone_on_with_and_forgotten,
            an_answer_that_is_cut_says_so,
            a_tool_that_must_be_called_is_called_and_its_result_taken,
            a_model_that_chooses_calls_and_goes_on_streamed_and_whole,
            an_answer_is_read_into_a_type,
            a_prompt_that_is_too_long_is_told_by_its_code,
            a_stream_that_is_closed_is_cancelled,
        ],
    )
