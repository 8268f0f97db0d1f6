"""What a user of litellm relies on, through each of its providers that speaks one of this server's APIs."""

import json
from typing import NamedTuple

import litellm

import checks
from checks import CAPITAL
from city import City

# It would print where its documentation is at each model whose name it does not know.
litellm.suppress_debug_info = True
WEATHER_TOOL = {
    "type": "function",
    "function": {"name": checks.TOOL, "description": "Tells the weather", "parameters": checks.WEATHER},
}
ASK = [{"role": "user", "content": checks.WEATHER_QUESTION}]
GREEDY = dict(messages=CAPITAL, temperature=0, max_tokens=32)


class Client(NamedTuple):
    """litellm has no client of its own, only arguments."""

    base_url: str

    def with_model(self, model: str) -> dict[str, dict]:
        """What names the model, by the API that is then spoken."""
        openai = dict(api_base=f"{self.base_url}/v1", api_key="not-needed")
        return {
            "chat": dict(model=f"openai/{model}", **openai),
            "messages": dict(model=f"anthropic/{model}", api_base=self.base_url, api_key="not-needed"),
            "ollama": dict(model=f"ollama_chat/{model}", api_base=self.base_url),
        }


def a_chat_names_paris_streamed_and_whole(client: Client, model: str) -> None:
    for api, named in client.with_model(model).items():
        whole = litellm.completion(**named, **GREEDY).choices[0]
        assert "Paris" in whole.message.content and whole.finish_reason == "stop", (api, whole)
        parts = litellm.completion(stream=True, **named, **GREEDY)
        streamed = "".join(part.choices[0].delta.content or "" for part in parts)
        assert streamed == whole.message.content, (api, streamed)


def a_tool_that_must_be_called_is_called_and_its_result_taken(client: Client, model: str) -> None:
    choice = {"type": "function", "function": {"name": checks.TOOL}}
    named = client.with_model(model)
    # Ollama's API has no choice of a tool.
    for api in ("chat", "messages"):
        asked = dict(**named[api], tools=[WEATHER_TOOL])
        forced = dict(tool_choice=choice, max_tokens=200)
        first = litellm.completion(**asked, messages=ASK, **forced).choices[0]
        [call] = first.message.tool_calls
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), (api, call)
        result = {"role": "tool", "tool_call_id": call.id, "content": checks.TOOL_SAYS}
        history = [*ASK, first.message, result]
        then = litellm.completion(**asked, messages=history, tool_choice="none", max_tokens=16).choices[0]
        assert then.message.content and not then.message.tool_calls, (api, then)


def a_model_that_chooses_calls_and_goes_on(_: Client, __: str) -> None:
    client, model = checks.scripted(Client)
    for api, named in client.with_model(model).items():
        asked = dict(**named, tools=[WEATHER_TOOL])
        first = litellm.completion(**asked, messages=ASK, max_tokens=200).choices[0]
        [call] = first.message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Paris"}, (api, call)
        result = {"role": "tool", "tool_call_id": call.id, "content": checks.TOOL_SAYS}
        then = litellm.completion(**asked, messages=[*ASK, first.message, result], max_tokens=200).choices[0]
        assert then.message.content == checks.SCRIPTED_TOLD, (api, then)


def an_answer_is_read_into_a_type(client: Client, model: str) -> None:
    for api, named in client.with_model(model).items():
        answer = litellm.completion(**named, **{**GREEDY, "max_tokens": 200}, response_format=City)
        assert City.model_validate_json(answer.choices[0].message.content), (api, answer)


def errors_are_of_the_right_class(client: Client, model: str) -> None:
    named = client.with_model(model)
    for api in ("chat", "messages"):
        with checks.raises(litellm.BadRequestError) as caught:
            litellm.completion(**named[api], messages=CAPITAL, max_tokens=32, temperature=9)
        assert "temperature" in str(caught.error), (api, caught.error)
        unknown = client.with_model("no-such-model")[api]
        with checks.raises(litellm.NotFoundError):
            litellm.completion(**unknown, **GREEDY)
    with checks.full_until_refused(client.base_url), checks.raises(litellm.RateLimitError):
        litellm.completion(**named["chat"], **GREEDY, max_retries=0)


def what_is_refused_for_a_while_is_tried_again(client: Client, model: str) -> None:
    for refusing in (checks.draining_until_refused, checks.full_until_refused):
        with refusing(client.base_url):
            answer = litellm.completion(**client.with_model(model)["chat"], **GREEDY, max_retries=2)
        assert "Paris" in answer.choices[0].message.content, answer
    # The client of these APIs is litellm's own, and tries again when it is told how.
    patient = dict(num_retries=6, retry_strategy="exponential_backoff_retry")
    for api in ("messages", "ollama"):
        for refusing in (checks.draining_until_refused, checks.full_until_refused):
            with refusing(client.base_url):
                answer = litellm.completion(**client.with_model(model)[api], **GREEDY, **patient)
            assert "Paris" in answer.choices[0].message.content, (api, answer)


def a_stream_that_is_left_is_cancelled(client: Client, model: str) -> None:
    long = [{"role": "user", "content": checks.LONG}]
    for api, named in client.with_model(model).items():
        with checks.cancelled(client.base_url):
            stream = litellm.completion(**named, messages=long, max_tokens=4000, stream=True)
            assert next(iter(stream)).choices, f"nothing came of {api}"
            stream.completion_stream.close()


if __name__ == "__main__":
    checks.main(
        Client,
        [
            a_chat_names_paris_streamed_and_whole,
            a_tool_that_must_be_called_is_called_and_its_result_taken,
            a_model_that_chooses_calls_and_goes_on,
            an_answer_is_read_into_a_type,
            errors_are_of_the_right_class,
            what_is_refused_for_a_while_is_tried_again,
            a_stream_that_is_left_is_cancelled,
        ],
    )
