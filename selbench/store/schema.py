"""Checks of values from files, since a store may come from anywhere."""

import sys
from collections.abc import Callable
from typing import Annotated, Any, NotRequired, TypeVar, get_type_hints

from pydantic import ConfigDict, Field, GetPydanticSchema, PlainValidator, Strict, ValidationError
from typing_extensions import TypedDict

from selbench._kit.frozen import first_problem

LARGEST = {int: 2**63 - 1, float: sys.float_info.max}  # the range of number columns
PARENTS = {"cells": "a cell", "cell": "a cell", "measurements": "a measurement"}
Kind = TypeVar("Kind")


def _number(value: Any) -> Any:
    """Return a number unchanged: 1 must not become 1.0, since keys and digests depend on it."""
    if type(value) in LARGEST and abs(value) <= LARGEST[type(value)]:
        return value
    raise ValueError("no finite number")


Text = Annotated[str, Strict()]
FilePart = Annotated[str, Strict(), Field(pattern=r"^[^/\\\x00]*$")]  # in the name of a file
Whole = Annotated[int, Strict(), Field(ge=-LARGEST[int], le=LARGEST[int])]
Number = Annotated[float, PlainValidator(_number)]


class Made(TypedDict, total=False):
    """How results were made, with any further facts."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    device: Text | None
    began: Text | None
    command: list[Text]
    versions: dict[str, Any]


def fields_of(kind: type) -> GetPydanticSchema:
    """Check the fields of a dataclass as a dictionary, which is three times as fast."""
    hints = get_type_hints(kind, include_extras=True).items()
    fields = {name: NotRequired[hint] if hasattr(kind, name) else hint for name, hint in hints}
    record = TypedDict("record", fields)  # type: ignore[misc]
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(record))


def checked(read: Callable[[Any], Kind], content: Any) -> Kind:
    """Return the content as read by a type adapter's method.

    Raises:
        ValueError: names the first wrong value.
    """
    try:
        return read(content)
    except ValidationError as problem:
        error = first_problem(problem)
    loc, missing = error["loc"], error["type"] == "missing"
    parent = next((part for part in reversed(loc[:-1]) if isinstance(part, str)), "")
    name = f"{loc[-1] if loc else 'it'}" + (f" of {PARENTS.get(parent, parent)}" if parent else "")
    raise ValueError(f"{name} is {None if missing else error['input']!r:.40}")
