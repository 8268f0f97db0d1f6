"""What a user of instructor relies on: an answer is an object of a type, in each of its modes that this server can hold."""

import asyncio
import contextlib
from typing import Annotated

import instructor
import openai
import pydantic
from instructor.core import InstructorRetryException

import checks
from checks import CAPITAL
from city import City

MODES = [
    instructor.Mode.TOOLS,
    instructor.Mode.TOOLS_STRICT,
    instructor.Mode.JSON_SCHEMA,
    instructor.Mode.RESPONSES_TOOLS,
]


class Client:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def with_mode(self, mode: instructor.Mode, **more) -> instructor.Instructor:
        client = openai.OpenAI(base_url=f"{self.base_url}/v1", api_key="not-needed", **more)
        return instructor.from_openai(client, mode=mode)


def an_answer_is_read_into_a_type_in_every_mode(client: Client, model: str) -> None:
    for mode in MODES:
        asked = dict(model=model, messages=CAPITAL, response_model=City)
        assert isinstance(client.with_mode(mode).chat.completions.create(**asked), City), mode


def an_object_grows_while_it_is_streamed(client: Client, model: str) -> None:
    asking = client.with_mode(instructor.Mode.JSON_SCHEMA).chat.completions
    parts = list(asking.create_partial(model=model, messages=CAPITAL, response_model=City))
    assert len(parts) > 1 and City.model_validate(parts[-1].model_dump()), parts


def errors_are_of_the_right_class(client: Client, model: str) -> None:
    asking = client.with_mode(instructor.Mode.TOOLS, max_retries=0).chat.completions
    with checks.raises(InstructorRetryException) as caught:
        asking.create(model="no-such-model", messages=CAPITAL, response_model=City, max_retries=0)
    assert "no-such-model" in str(caught.error), caught.error


def what_is_refused_for_a_while_is_tried_again(client: Client, model: str) -> None:
    for refusing in (checks.draining_until_refused, checks.full_until_refused):
        with refusing(client.base_url):
            asking = client.with_mode(instructor.Mode.TOOLS).chat.completions
            assert isinstance(asking.create(model=model, messages=CAPITAL, response_model=City), City)


def an_object_that_is_left_is_cancelled(client: Client, model: str) -> None:
    class Story(pydantic.BaseModel):
        words: Annotated[list[str], pydantic.Field(min_length=2000)]

    # The other client of instructor gives the parts of an object when it has all of them.
    async def leave() -> None:
        asked = dict(model=model, messages=CAPITAL, response_model=Story, max_tokens=4000)
        async with openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="not-needed") as at_openai:
            asking = instructor.from_openai(at_openai, mode=instructor.Mode.JSON_SCHEMA).chat.completions
            async with contextlib.aclosing(asking.create_partial(**asked)) as parts:
                await anext(parts)

    with checks.cancelled(client.base_url):
        asyncio.run(leave())


if __name__ == "__main__":
    checks.main(
        Client,
        [
            an_answer_is_read_into_a_type_in_every_mode,
            an_object_grows_while_it_is_streamed,
            errors_are_of_the_right_class,
            what_is_refused_for_a_while_is_tried_again,
            an_object_that_is_left_is_cancelled,
        ],
    )
