"""What a user of the official Anthropic client relies on."""

import anthropic

import checks
from city import City

SYSTEM = [{"type": "text", "text": checks.SYSTEM, "cache_control": {"type": "ephemeral"}}]
CAPITAL = [{"role": "user", "content": checks.QUESTION}]
# The newest client has no name for the temperature, which the API has.
ASK = dict(system=SYSTEM, messages=CAPITAL, max_tokens=32, extra_body={"temperature": 0})
WEATHER_TOOL = {"name": checks.TOOL, "description": "Tells the weather", "input_schema": checks.WEATHER, "strict": True}
WEATHER = dict(messages=[{"role": "user", "content": checks.WEATHER_QUESTION}], tools=[WEATHER_TOOL], max_tokens=200)


def client_of(base_url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base_url, api_key="not-needed")


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


def models_are_listed(client: anthropic.Anthropic, model: str) -> None:
    listed = client.models.list().data
    assert [m.id for m in listed] == [model], listed
    assert client.models.retrieve(model).created_at.year >= 2024


def a_tool_that_must_be_called_is_called_and_its_result_taken(client: anthropic.Anthropic, model: str) -> None:
    named = {"type": "tool", "name": checks.TOOL}
    first = client.messages.create(model=model, tool_choice=named, **WEATHER)
    assert first.stop_reason == "tool_use", first
    [call] = first.content
    assert call.name == checks.TOOL and call.input["city"] in ("Paris", "Rome"), call
    result = {"type": "tool_result", "tool_use_id": call.id, "content": checks.TOOL_SAYS}
    history = [*WEATHER["messages"], {"role": "assistant", "content": first.content}]
    history.append({"role": "user", "content": [result]})
    again = {**WEATHER, "messages": history, "max_tokens": 16}
    then = client.messages.create(model=model, tool_choice={"type": "none"}, **again)
    assert [block.type for block in then.content] == ["text"], then
    counted = client.messages.count_tokens(model=model, tools=[WEATHER_TOOL], messages=history)
    usage = client.messages.create(model=model, **again).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens, (counted, usage)


def a_model_that_chooses_calls_and_goes_on_streamed_and_whole(_: anthropic.Anthropic, __: str) -> None:
    client, model = checks.scripted(client_of)
    with client.messages.stream(model=model, **WEATHER) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        streamed = stream.get_final_message()
    whole = client.messages.create(model=model, **WEATHER)
    assert streamed.stop_reason == whole.stop_reason == "tool_use", streamed
    [call], [same] = streamed.content, whole.content
    assert call.input == same.input == {"city": "Paris"} and "".join(pieces), (pieces, call, same)

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Tells the weather."""
        assert city == "Paris", city
        return checks.TOOL_SAYS

    asked = {**WEATHER, "tools": [get_weather]}
    last = client.beta.messages.tool_runner(model=model, **asked).until_done()
    assert last.content[0].text == checks.SCRIPTED_TOLD, last


def an_answer_is_read_into_a_type(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.parse(model=model, output_format=City, **{**ASK, "max_tokens": 200})
    assert isinstance(message.parsed_output, City), message


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
    with checks.full_until_refused(str(client.base_url)), checks.raises(anthropic.OverloadedError) as caught:
        client.with_options(max_retries=0).messages.create(model=model, **ASK)
    assert caught.error.response.headers["retry-after"], caught.error.response.headers


def a_parked_server_is_overloaded(client: anthropic.Anthropic, model: str) -> None:
    with checks.parked(str(client.base_url)), checks.raises(anthropic.OverloadedError) as caught:
        client.with_options(max_retries=0).messages.create(model=model, **ASK)
    assert caught.error.status_code == 529, caught.error
    assert caught.error.response.headers["retry-after"], caught.error.response.headers


def what_is_refused_for_a_while_is_tried_again(client: anthropic.Anthropic, model: str) -> None:
    for refusing in (checks.draining_until_refused, checks.full_until_refused):
        with refusing(str(client.base_url)):
            message = client.messages.create(model=model, **ASK)
        assert "Paris" in message.content[0].text, message


def a_stream_that_is_closed_is_cancelled(client: anthropic.Anthropic, model: str) -> None:
    long = [{"role": "user", "content": checks.LONG}]
    with checks.cancelled(str(client.base_url)):
        with client.messages.stream(model=model, messages=long, max_tokens=4000) as stream:
            assert next(iter(stream.text_stream)), "nothing came"


if __name__ == "__main__":
    checks.main(
        client_of,
        [
            a_message_names_paris,
            a_streamed_message_says_the_same,
            tokens_are_counted,
            a_prompt_is_warmed_without_an_answer,
            an_answer_is_gone_on_with_and_stops,
            models_are_listed,
            a_tool_that_must_be_called_is_called_and_its_result_taken,
            a_model_that_chooses_calls_and_goes_on_streamed_and_whole,
            an_answer_is_read_into_a_type,
            errors_are_of_the_right_class,
            a_parked_server_is_overloaded,
            what_is_refused_for_a_while_is_tried_again,
            a_stream_that_is_closed_is_cancelled,
        ],
    )
