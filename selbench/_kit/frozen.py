"""Values that come from files or callers: checked once, then passed on unchanged."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails


class Frozen(BaseModel):
    """A value that is read once, hashed and passed on; unknown keys and `true` for 1 are errors.

    Integers are accepted for floats, and lists for tuples, because files have no tuples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        return {
            name: tuple(each) if isinstance(each, list) else each for name, each in content.items()
        }


def first_problem(problem: ValidationError) -> ErrorDetails:
    """Return the first error of a validation; its "msg" fits into a sentence.

    A misspelt key gives two errors, for an unknown and for a missing key; the first one helps more.
    """
    error = min(problem.errors(), key=lambda each: each["type"] != "extra_forbidden")
    message = error["msg"].removeprefix("Value error, ")
    error["msg"] = f"{message[:1].lower()}{message[1:]}"
    return error
