"""What a user of the official Anthropic client relies on, against a started server: `anthropic_client.py BASE_URL`."""

import sys

import anthropic

import checks

# A model as small as the starter model needs to be told what it is, or it answers in a French of its own.
SYSTEM = [{"type": "text", "text": "You are a helpful assistant.", "cache_control": {"type": "ephemeral"}}]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
# Strict and of two values, so that a model of any size calls it as it should be called.
GUIDE = {
    "name": "guide",
    "description": "Tells about a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
# The newest client has no name for the temperature, which the API has.
ASK = dict(system=SYSTEM, messages=CAPITAL, max_tokens=32, extra_body={"temperature": 0})


def a_message_names_paris(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.create(model=model, **ASK)
    assert "Paris" in message.content[0].text, message
    assert (message.stop_reason, message.role, message.type) == ("end_turn", "assistant", "message"), message
    assert message.usage.output_tokens > 0, message
    assert message._request_id, "no request-id"


def a_streamed_message_says_the_same(client: anthropic.Anthropic, model: str) -> None:
    whole = client.messages.create(model=model, **ASK)
    with client.messages.stream(model=model, **ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text, text
    assert final.usage.output_tokens == whole.usage.output_tokens, final
    prompt = [u.input_tokens + u.cache_read_input_tokens for u in (whole.usage, final.usage)]
    assert prompt[0] == prompt[1], (whole.usage, final.usage)
    assert final.usage.cache_read_input_tokens > 0, "the prompt was there already"


def tokens_are_counted(client: anthropic.Anthropic, model: str) -> None:
    counted = client.messages.count_tokens(model=model, system=SYSTEM, messages=CAPITAL)
    usage = client.messages.create(model=model, **ASK).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens, (counted, usage)


def a_prompt_is_warmed_without_an_answer(client: anthropic.Anthropic, model: str) -> None:
    system = "You know the names of many rivers."
    warm = client.messages.create(model=model, **{**ASK, "system": system, "max_tokens": 0})
    assert (warm.content, warm.usage.output_tokens) == ([], 0), warm
    then = client.messages.create(model=model, **{**ASK, "system": system})
    assert then.usage.cache_read_input_tokens > 0, then


def an_answer_is_gone_on_with_and_stops(client: anthropic.Anthropic, model: str) -> None:
    begun = CAPITAL + [{"role": "assistant", "content": "The capital of France is"}]
    answer = client.messages.create(model=model, **{**ASK, "messages": begun, "stop_sequences": ["."]})
    assert "Paris" in answer.content[0].text, answer
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "."), answer


def a_tool_is_used_and_its_result_is_read(client: anthropic.Anthropic, model: str) -> None:
    choice = {"type": "tool", "name": "guide", "disable_parallel_tool_use": True}
    ask = {**ASK, "tools": [GUIDE], "max_tokens": 64}
    first = client.messages.create(model=model, tool_choice=choice, **ask)
    assert first.stop_reason == "tool_use", first
    [call] = first.content
    assert (call.type, call.name) == ("tool_use", "guide") and call.input["city"] in ("Paris", "Rome"), call
    with client.messages.stream(model=model, tool_choice=choice, **ask) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert pieces and final.content[0].input == call.input, (pieces, final)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It is called the city of light."}
    round_trip = CAPITAL + [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    then = client.messages.create(model=model, **{**ask, "messages": round_trip})
    counted = client.messages.count_tokens(model=model, system=SYSTEM, tools=[GUIDE], messages=round_trip)
    assert counted.input_tokens == then.usage.input_tokens + then.usage.cache_read_input_tokens, (counted, then)


def models_are_listed(client: anthropic.Anthropic, model: str) -> None:
    listed = client.models.list().data
    assert [m.id for m in listed] == [model], listed
    assert client.models.retrieve(model).created_at.year >= 2024


def errors_are_of_the_right_class(client: anthropic.Anthropic, model: str) -> None:
    with checks.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=model, **{**ASK, "extra_body": {"temperature": 9}})
    assert "temperature" in caught.error.message, caught.error
    with checks.raises(anthropic.NotFoundError):
        client.messages.create(model="no-such-model", **ASK)
    long = [{"role": "user", "content": "long " * 20_000}]
    with checks.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=model, **{**ASK, "messages": long})
    assert "prompt is too long" in caught.error.message, caught.error


def a_parked_server_is_overloaded(client: anthropic.Anthropic, model: str) -> None:
    with checks.parked(str(client.base_url)), checks.raises(anthropic.APIStatusError) as caught:
        client.with_options(max_retries=0).messages.create(model=model, **ASK)
    assert caught.error.status_code == 529, caught.error
    assert caught.error.response.headers["retry-after"], caught.error.response.headers


def main() -> int:
    base_url = sys.argv[1].rstrip("/")
    model = checks.wait_until_started(base_url)
    client = anthropic.Anthropic(base_url=base_url, api_key="not-needed")
    return checks.run(
        client,
        model,
        [
            a_message_names_paris,
            a_streamed_message_says_the_same,
            tokens_are_counted,
            a_prompt_is_warmed_without_an_answer,
            an_answer_is_gone_on_with_and_stops,
            a_tool_is_used_and_its_result_is_read,
            models_are_listed,
            errors_are_of_the_right_class,
            a_parked_server_is_overloaded,
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
