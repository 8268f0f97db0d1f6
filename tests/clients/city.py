"""The type that answers are read into."""

from typing import Literal

import pydantic


class City(pydantic.BaseModel):
    """A city, of few words: the starter model is made to say one of them."""

    name: Literal["Paris", "Rome", "Vienna"]
    is_capital: bool
    river: Literal["Seine", "Tiber", "Danube"] | None
