"""Values that come from files or callers: checked once, then passed down unchanged."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails


class Frozen(BaseModel):
    """A value read once, hashed and passed down; an unknown key is an error, so is `true` for 1.

    Whole numbers may be given for real ones, and lists for tuples, as files have no tuples.
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
    """Return what is wrong with a value: "loc", "input", "type", and "msg" as part of a sentence.

    A misspelt key is unknown and its right spelling missing: the former helps.
    """
    error = min(problem.errors(), key=lambda each: each["type"] != "extra_forbidden")
    message = error["msg"].removeprefix("Value error, ")
    error["msg"] = f"{message[:1].lower()}{message[1:]}"
    return error
