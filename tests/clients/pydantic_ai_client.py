"""What a user of pydantic-ai relies on, through each of its models that speaks one of this server's APIs."""

import asyncio

import anthropic
import openai
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

import checks
from city import City

GREEDY = {"temperature": 0, "max_tokens": 32}
# It asks for schemas by Anthropic's API only of models whose names it knows, or when it is told so.
HOLDS_SCHEMAS = {"supports_json_schema_output": True}


class Client:
    """The models of pydantic-ai at one server."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def every(self, model: str, **more) -> list:
        at_openai = openai.AsyncOpenAI(base_url=f"{self.base_url}/v1", api_key="not-needed", **more)
        at_anthropic = anthropic.AsyncAnthropic(base_url=self.base_url, api_key="not-needed", **more)
        return [
            OpenAIChatModel(model, provider=OpenAIProvider(openai_client=at_openai)),
            OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=at_openai)),
            AnthropicModel(model, provider=AnthropicProvider(anthropic_client=at_anthropic), profile=HOLDS_SCHEMAS),
        ]


def get_weather(city: str) -> str:
    """Tells the weather."""
    assert city == "Paris", city
    return checks.TOOL_SAYS


def a_chat_names_paris_streamed_and_whole(client: Client, model: str) -> None:
    for chat in client.every(model):
        agent = Agent(chat, instructions=checks.SYSTEM, model_settings=GREEDY)
        whole = agent.run_sync(checks.QUESTION)
        assert "Paris" in whole.output, (chat, whole)
        streamed = "".join(agent.run_stream_sync(checks.QUESTION).stream_text(delta=True))
        assert streamed == whole.output, (chat, streamed)


def a_model_that_chooses_is_run_with_its_tools(_: Client, __: str) -> None:
    client, model = checks.scripted(Client)
    for chat in client.every(model):
        agent = Agent(chat, tools=[get_weather])
        assert agent.run_sync(checks.WEATHER_QUESTION).output == checks.SCRIPTED_TOLD, chat


def an_answer_is_read_into_a_type(client: Client, model: str) -> None:
    # As a tool the starter model is made to call it: the choice is forced.
    for output in (ToolOutput(City), NativeOutput(City)):
        for chat in client.every(model):
            agent = Agent(chat, output_type=output, model_settings={"max_tokens": 200})
            assert isinstance(agent.run_sync(checks.QUESTION).output, City), (chat, output)


def errors_are_of_the_right_class(client: Client, model: str) -> None:
    for chat in client.every("no-such-model"):
        with checks.raises(ModelHTTPError) as caught:
            Agent(chat).run_sync(checks.QUESTION)
        assert caught.error.status_code == 404, caught.error
    chat = client.every(model, max_retries=0)[0]
    with checks.full_until_refused(client.base_url), checks.raises(ModelHTTPError) as caught:
        Agent(chat).run_sync(checks.QUESTION)
    assert caught.error.status_code == 429, caught.error


def what_is_refused_for_a_while_is_tried_again(client: Client, model: str) -> None:
    for place in range(3):
        for refusing in (checks.draining_until_refused, checks.full_until_refused):
            with refusing(client.base_url):
                agent = Agent(client.every(model)[place], instructions=checks.SYSTEM, model_settings=GREEDY)
                assert "Paris" in agent.run_sync(checks.QUESTION).output, place


def a_stream_that_is_left_is_cancelled(client: Client, model: str) -> None:
    async def read(agent: Agent) -> None:
        async with agent.run_stream(checks.LONG) as answer:
            async for _ in answer.stream_text(delta=True):
                pass

    async def leave(chat) -> None:
        task = asyncio.create_task(read(Agent(chat, model_settings={"max_tokens": 4000})))
        await asyncio.to_thread(checks.until, "an answer is written", lambda: checks.is_writing(client.base_url))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for place in range(3):
        with checks.cancelled(client.base_url):
            asyncio.run(leave(client.every(model)[place]))


if __name__ == "__main__":
    checks.main(
        Client,
        [
            a_chat_names_paris_streamed_and_whole,
            a_model_that_chooses_is_run_with_its_tools,
            an_answer_is_read_into_a_type,
            errors_are_of_the_right_class,
            what_is_refused_for_a_while_is_tried_again,
            a_stream_that_is_left_is_cancelled,
        ],
    )
