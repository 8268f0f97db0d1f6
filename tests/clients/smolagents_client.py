"""What a user of smolagents relies on: an agent calls its tools until it has the answer.

The agent's model is the scripted one, which must call and chooses what: the starter model would not find the end.
"""

import gc

import openai
import smolagents

import checks
from checks import CAPITAL


def client_of(base_url: str):
    return lambda model, **more: smolagents.OpenAIModel(
        model_id=model, api_base=f"{base_url}/v1", api_key="not-needed", **more
    )


@smolagents.tool
def get_weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: The city.
    """
    assert city == "Paris", city
    return checks.TOOL_SAYS


def a_chat_names_paris_streamed_and_whole(client, model: str) -> None:
    chat = client(model, temperature=0, max_tokens=32)
    whole = chat.generate(CAPITAL).content
    assert "Paris" in whole, whole
    streamed = "".join(part.content or "" for part in chat.generate_stream(CAPITAL))
    assert streamed == whole, streamed


def an_agent_calls_its_tools_until_it_has_the_answer(_, __: str) -> None:
    client, model = checks.scripted(client_of)
    for stream in (False, True):
        agent = smolagents.ToolCallingAgent(
            tools=[get_weather], model=client(model), max_steps=3, verbosity_level=0, stream_outputs=stream
        )
        assert agent.run(checks.WEATHER_QUESTION) == checks.SCRIPTED_TOLD, stream
        actions = [step for step in agent.memory.steps if isinstance(step, smolagents.ActionStep)]
        assert [step.tool_calls[0].name for step in actions] == [checks.TOOL, "final_answer"], actions


def errors_are_of_the_right_class(client, model: str) -> None:
    with checks.raises(openai.NotFoundError):
        client("no-such-model").generate(CAPITAL)


def what_is_refused_for_a_while_is_tried_again(client, model: str) -> None:
    for refusing in (checks.draining_until_refused, checks.full_until_refused):
        with refusing(checks.address(1)):
            assert "Paris" in client(model, temperature=0, max_tokens=32).generate(CAPITAL).content, refusing


def a_stream_that_is_left_is_cancelled(client, model: str) -> None:
    with checks.cancelled(checks.address(1)):
        parts = client(model, max_tokens=4000).generate_stream([{"role": "user", "content": checks.LONG}])
        next(part for part in parts if part.content)
        parts.close()
        # It leaves the connection to Python, which closes what nobody has any longer.
        del parts
        gc.collect()


if __name__ == "__main__":
    checks.main(
        client_of,
        [
            a_chat_names_paris_streamed_and_whole,
            an_agent_calls_its_tools_until_it_has_the_answer,
            errors_are_of_the_right_class,
            what_is_refused_for_a_while_is_tried_again,
            a_stream_that_is_left_is_cancelled,
        ],
    )
