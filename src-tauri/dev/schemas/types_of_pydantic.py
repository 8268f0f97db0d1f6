"""JSON schemas of ordinary types as pydantic and instructor write them, one JSON object a line.

    python types_of_pydantic.py; node types_of_zod.mjs     see README.md
"""

import datetime as dt
import json
import sys
import uuid
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from typing import Annotated, Literal, Optional, Union

from pydantic import UUID4, AnyUrl, BaseModel, ConfigDict, EmailStr, Field, HttpUrl, SecretStr, TypeAdapter


class Colour(str, Enum):
    red = "red"
    green = "green"


class Level(IntEnum):
    low = 1
    high = 9


class Person(BaseModel):
    name: str
    age: int


class Address(BaseModel):
    """Where somebody lives."""

    model_config = ConfigDict(extra="forbid")
    street: str = Field(min_length=1, max_length=40, description="street and number")
    zip: str = Field(pattern=r"^\d{5}$")
    country: Colour = Colour.red


class Customer(BaseModel):
    person: Person
    addresses: list[Address] = Field(min_length=1, max_length=3)
    referred_by: Optional["Customer"] = None


class Reading(BaseModel):
    id: UUID4
    other: uuid.UUID
    at: dt.datetime
    day: dt.date
    clock: dt.time
    took: dt.timedelta
    home: Path
    secret: SecretStr
    raw: bytes


class Net(BaseModel):
    v4: IPv4Address
    v6: IPv6Address
    net: IPv4Network
    url: HttpUrl
    any: AnyUrl


class Money(BaseModel):
    price: Decimal
    rate: float = Field(gt=0, lt=1)
    cents: int = Field(ge=0, multiple_of=5)
    big: int = Field(ge=-(2**63), le=2**63 - 1)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


class Shelter(BaseModel):
    pets: list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]]


class Tags(BaseModel):
    tags: set[str]
    scores: dict[str, float]
    by_colour: dict[Colour, int]
    pair: tuple[int, str]
    many: tuple[int, ...]
    frozen: frozenset[int]


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Step(BaseModel):
    explanation: str
    output: str


class MathReasoning(BaseModel):
    steps: list[Step]
    final_answer: str


class Search(BaseModel):
    query: str = Field(..., description="the query")
    kind: Literal["web", "image", 3, None] = "web"
    limit: Annotated[int, Field(strict=True, gt=0, le=50)] = 10


PYDANTIC = {
    "person": Person,
    "customer": Customer,
    "reading": Reading,
    "net": Net,
    "money": Money,
    "shelter": Shelter,
    "tags": Tags,
    "tree": Tree,
    "search": Search,
    "math_reasoning": MathReasoning,
    "level": Level,
    "optional_list": list[Optional[int]],
    "union": Union[int, str, list[bool], None],
    "nested_dict": dict[str, dict[str, list[int]]],
    "email": EmailStr if "email_validator" in sys.modules else str,
}


class Iterable(BaseModel):
    """As instructor wraps lists."""

    tasks: list[Person]


def instructor_schemas():
    from instructor.v2.core.schema import generate_openai_schema

    for model in (Person, Address, Shelter, MathReasoning, Iterable, Search):
        yield model.__name__, generate_openai_schema(model)["parameters"]


for name, kind in PYDANTIC.items():
    print(json.dumps({"from": "pydantic", "name": name, "schema": TypeAdapter(kind).json_schema()}))
for name, schema in instructor_schemas():
    print(json.dumps({"from": "instructor", "name": name, "schema": schema}))
