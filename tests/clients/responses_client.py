"""What a user of the official OpenAI client's Responses API relies on: `responses_client.py BASE_URL`."""

import json
import sys

import openai

import checks

# A model as small as the starter model needs to be told what it is, or it answers in a French of its own.
ASK = dict(
    instructions="You are a helpful assistant.",
    input="What is the capital of France?",
    temperature=0,
    max_output_tokens=32,
)
# Strict and of two values, so that a model of any size calls it as it should be called.
GUIDE = {
    "type": "function",
    "name": "guide",
    "description": "Tells about a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


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


def a_function_is_called_and_its_output_is_read(client: openai.OpenAI, model: str) -> None:
    ask = {**ASK, "tools": [GUIDE], "max_output_tokens": 64}
    must = {"tool_choice": "required", "parallel_tool_calls": False}
    first = client.responses.create(model=model, **ask, **must)
    [call] = first.output
    assert (call.type, call.name) == ("function_call", "guide"), first
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome"), call
    with client.responses.stream(model=model, **ask, **must) as stream:
        wanted = "response.function_call_arguments.delta"
        arguments = "".join(event.delta for event in stream if event.type == wanted)
        final = stream.get_final_response()
    assert arguments == final.output[0].arguments == call.arguments, (arguments, final)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "It is called the city of light."}
    kept = client.responses.create(model=model, **{**ask, "input": [output]}, previous_response_id=first.id)
    whole = [{"role": "user", "content": ASK["input"]}, call.model_dump(exclude_none=True), output]
    again = client.responses.create(model=model, **{**ask, "input": whole})
    assert kept.usage.input_tokens == again.usage.input_tokens > first.usage.input_tokens, (kept, again)
    assert kept.output_text == again.output_text, (kept, again)


def an_answer_that_is_cut_says_so(client: openai.OpenAI, model: str) -> None:
    cut = client.responses.create(model=model, **{**ASK, "max_output_tokens": 2})
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", cut


def a_prompt_that_is_too_long_is_told_by_its_code(client: openai.OpenAI, model: str) -> None:
    with checks.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, **{**ASK, "input": "long " * 20_000})
    assert caught.error.code == "context_length_exceeded", caught.error


def main() -> int:
    base_url = sys.argv[1].rstrip("/")
    model = checks.wait_until_started(base_url)
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="not-needed")
    return checks.run(
        client,
        model,
        [
            a_response_names_paris,
            a_streamed_response_says_the_same,
            a_response_is_gone_on_with_and_forgotten,
            a_function_is_called_and_its_output_is_read,
            an_answer_that_is_cut_says_so,
            a_prompt_that_is_too_long_is_told_by_its_code,
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
