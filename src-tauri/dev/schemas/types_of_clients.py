"""JSON schemas of ordinary types as other libraries write them into requests, one JSON object a line. See README.md.

They are taken where each library puts them: in a tool's parameters, or in the format of an answer.
"""

import json
from datetime import date
from enum import Enum
from typing import Annotated, Literal, Optional, TypedDict, Union

from pydantic import BaseModel, ConfigDict, Field


class Priority(str, Enum):
    low = "low"
    high = "high"


class Place(BaseModel):
    """Where something is."""

    name: str = Field(description="its name")
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    tags: list[str] = Field(default_factory=list, max_length=5)


class Task(BaseModel):
    """A thing to do."""

    title: str
    due: Optional[date] = None
    priority: Priority = Priority.low
    where: Optional[Place] = None
    parts: list["Task"] = Field(default_factory=list)


class Email(BaseModel):
    kind: Literal["email"]
    to: str
    subject: str


class Call(BaseModel):
    kind: Literal["call"]
    number: str = Field(pattern=r"^\+[0-9]{6,15}$")


class Plan(BaseModel):
    steps: list[Annotated[Union[Email, Call], Field(discriminator="kind")]] = Field(min_length=1)
    note: Union[str, int, None] = None


class Größe(BaseModel):
    """Namen in anderen Sprachen."""

    model_config = ConfigDict(populate_by_name=True)
    höhe: float = Field(alias="höhe_cm", description="in Zentimetern")
    名前: str
    größen: dict[str, int]


class Weather(TypedDict):
    """The weather of a place."""

    city: Annotated[str, ..., "the city"]
    days: Annotated[list[str], ..., "days of the week"]
    unit: Annotated[Optional[Literal["C", "F"]], None, "a unit"]


def search(query: str, limit: int = 10, kinds: Optional[list[Literal["web", "news"]]] = None) -> str:
    """Search for something.

    Args:
        query: what to look for
        limit: how many results
        kinds: where to look
    """
    return query


MODELS = {"place": Place, "task": Task, "plan": Plan, "unicode": Größe}


def langchain():
    from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

    for name, model in {**MODELS, "typed_dict": Weather, "function": search}.items():
        yield f"{name} tool", convert_to_openai_tool(model)["function"]["parameters"]
    for name, model in {"place": Place, "plan": Plan, "typed_dict": Weather}.items():
        yield f"{name} format", convert_to_json_schema(model)
        yield f"{name} strict format", convert_to_json_schema(model, strict=True)


def openai():
    from openai import pydantic_function_tool
    from openai.lib._parsing._completions import type_to_response_format_param

    for name, model in MODELS.items():
        if name != "unicode":  # strict mode has no free dictionaries
            yield f"{name} tool", pydantic_function_tool(model)["function"]["parameters"]
            yield f"{name} format", type_to_response_format_param(model)["json_schema"]["schema"]


def pydantic_ai():
    from pydantic_ai import Agent, ToolOutput
    from pydantic_ai.models.function import FunctionModel

    seen = []

    def look(_messages, info):
        seen.extend(tool.parameters_json_schema for tool in [*info.function_tools, *info.output_tools])
        raise RuntimeError

    for name, model in MODELS.items():
        seen.clear()
        agent = Agent(FunctionModel(look), output_type=[ToolOutput(model)], tools=[search])
        try:
            agent.run_sync("x")
        except Exception:  # the model said nothing; what it was told is what is wanted
            pass
        for kind, schema in zip(["function", name], seen):
            if kind == name or name == "place":
                yield f"{kind} tool", schema


def smolagents():
    from smolagents import tool

    @tool
    def lookup(query: str, limit: int = 10, exact: bool = False) -> str:
        """Look something up.

        Args:
            query: what to look for
            limit: how many results
            exact: whether the words must be these
        """
        return query

    from smolagents.models import get_tool_json_schema

    yield "function tool", get_tool_json_schema(lookup)["function"]["parameters"]


# Each schema once: many libraries write the same.
said = set()
for library in (langchain, openai, pydantic_ai, smolagents):
    for name, schema in library():
        if (text := json.dumps(schema)) in said:
            continue
        said.add(text)
        print(json.dumps({"from": library.__name__, "name": name, "schema": schema}, ensure_ascii=False))
