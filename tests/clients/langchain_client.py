"""What a user of LangChain relies on: langchain-openai, langchain-anthropic and langchain-ollama."""

import anthropic
import ollama
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

import checks
from checks import CAPITAL
from city import City

ASK = HumanMessage(checks.WEATHER_QUESTION)


@tool
def get_weather(city: str) -> str:
    """Tells the weather."""
    assert city in ("Paris", "Rome"), city
    return checks.TOOL_SAYS


class Client:
    """The chat models of LangChain at one server."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def openai(self, model: str, **more) -> ChatOpenAI:
        return ChatOpenAI(model=model, base_url=f"{self.base_url}/v1", api_key="not-needed", **more)

    def responses(self, model: str, **more) -> ChatOpenAI:
        return self.openai(model, use_responses_api=True, **more)

    def anthropic(self, model: str, **more) -> ChatAnthropic:
        return ChatAnthropic(model=model, base_url=self.base_url, api_key="not-needed", **more)

    def ollama(self, model: str, **more) -> ChatOllama:
        if "max_tokens" in more:
            more["num_predict"] = more.pop("max_tokens")
        return ChatOllama(model=model, base_url=self.base_url, **more)

    def every(self, model: str, **more) -> list:
        return [make(model, **more) for make in (self.openai, self.responses, self.anthropic, self.ollama)]


def a_chat_names_paris_streamed_and_whole(client: Client, model: str) -> None:
    for chat in client.every(model, temperature=0, max_tokens=32):
        whole = chat.invoke(CAPITAL)
        assert "Paris" in whole.text and whole.usage_metadata["output_tokens"] > 0, whole
        streamed = "".join(part.text for part in chat.stream(CAPITAL))
        assert streamed == whole.text, (chat, streamed)


def a_tool_that_must_be_called_is_called_and_its_result_taken(client: Client, model: str) -> None:
    # Ollama's API has no choice of a tool.
    for make in (client.openai, client.responses, client.anthropic):
        chat = make(model, max_tokens=200)
        first = chat.bind_tools([get_weather], tool_choice=checks.TOOL).invoke([ASK])
        [call] = first.tool_calls
        assert call["name"] == checks.TOOL and call["args"]["city"], (make, call)
        result = ToolMessage(checks.TOOL_SAYS, tool_call_id=call["id"])
        then = make(model, max_tokens=16).invoke([ASK, first, result])
        assert then.text and not then.tool_calls, (make, then)


def a_model_that_chooses_calls_and_goes_on_streamed_and_whole(_: Client, __: str) -> None:
    client, model = checks.scripted(Client)
    for chat in client.every(model, max_tokens=200):
        bound = chat.bind_tools([get_weather])
        first = bound.invoke([ASK])
        [call] = first.tool_calls
        streamed = sum_of(bound.stream([ASK]))
        assert streamed.tool_calls[0]["args"] == call["args"] == {"city": "Paris"}, (chat, streamed, call)
        then = bound.invoke([ASK, first, get_weather.invoke(call)])
        assert then.text == checks.SCRIPTED_TOLD, (chat, then)


def sum_of(parts):
    whole = None
    for part in parts:
        whole = part if whole is None else whole + part
    return whole


def an_answer_is_read_into_a_type(client: Client, model: str) -> None:
    for chat in client.every(model, max_tokens=200):
        for method in ("json_schema", "function_calling"):
            # Ollama's API has no choice of a tool.
            if not (isinstance(chat, ChatOllama) and method == "function_calling"):
                answer = chat.with_structured_output(City, method=method).invoke(CAPITAL)
                assert isinstance(answer, City), (chat, method, answer)


def errors_are_of_the_right_class(client: Client, model: str) -> None:
    classes = [openai.NotFoundError, openai.NotFoundError, anthropic.NotFoundError, ollama.ResponseError]
    for chat, kind in zip(client.every("no-such-model"), classes, strict=True):
        with checks.raises(kind):
            chat.invoke(CAPITAL)
    with checks.full_until_refused(client.base_url), checks.raises(openai.RateLimitError):
        client.openai(model, max_retries=0).invoke(CAPITAL)
    with checks.full_until_refused(client.base_url), checks.raises(anthropic.OverloadedError):
        client.anthropic(model, max_retries=0).invoke(CAPITAL)


def what_is_refused_for_a_while_is_tried_again(client: Client, model: str) -> None:
    for make in (client.openai, client.anthropic):
        for refusing in (checks.draining_until_refused, checks.full_until_refused):
            with refusing(client.base_url):
                answer = make(model, temperature=0, max_tokens=32).invoke(CAPITAL)
            assert "Paris" in answer.text, (make, answer)


def a_stream_that_is_left_is_cancelled(client: Client, model: str) -> None:
    for chat in client.every(model, max_tokens=4000):
        with checks.cancelled(client.base_url):
            parts = chat.stream([HumanMessage(checks.LONG)])
            next(part for part in parts if part.text)
            parts.close()


if __name__ == "__main__":
    checks.main(
        Client,
        [
            a_chat_names_paris_streamed_and_whole,
            a_tool_that_must_be_called_is_called_and_its_result_taken,
            a_model_that_chooses_calls_and_goes_on_streamed_and_whole,
            an_answer_is_read_into_a_type,
            errors_are_of_the_right_class,
            what_is_refused_for_a_while_is_tried_again,
            a_stream_that_is_left_is_cancelled,
        ],
    )
