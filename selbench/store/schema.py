"""What values must be that were read from files: a store may come from anywhere."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

LARGEST = 2**63 - 1  # what a column of whole numbers holds
KINDS: dict[str, set[type]] = {"text": {str}, "number": {int, float}, "whole": {int}}
KINDS |= {f"{name}?": types | {type(None)} for name, types in KINDS.items()}


def check_record(record: Any, kinds: Mapping[str, str], what: str) -> None:
    """Raise TypeError or ValueError unless a record's values are of these kinds.

    Args:
        record: what was read from JSON.
        kinds: by name: "text", "number" (finite), "whole" (of 64 bits); with "?" it may be missing.
        what: names the record.
    """
    if not isinstance(record, dict):
        raise TypeError(f"{what} is no record")
    for name, kind in kinds.items():  # many: of each measurement six
        value: Any = record.get(name)
        found = type(value)
        if (
            found not in KINDS[kind]
            or (found is float and not isfinite(value))
            or (found is int and abs(value) > LARGEST)
        ):
            raise ValueError(f"{name} of {what} is {value!r:.40}")


def check_made(made: Any) -> None:
    """Raise TypeError or ValueError unless this says how results came about."""
    check_record(made, {"device": "text?", "began": "text?"}, "what it says of its making")
    words = made.get("command", [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError("its command is no list of words")
    check_record(made.get("versions", {}), {}, "what it says of versions")
