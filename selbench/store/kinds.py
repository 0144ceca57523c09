"""What values must be that were read from files: a store may come from anywhere."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

LARGEST = 2**63 - 1  # what a column of whole numbers holds


def check_record(record: Any, kinds: Mapping[str, str], what: str) -> None:
    """Raise TypeError or ValueError unless a record's values are of these kinds.

    Args:
        record: what was read.
        kinds: by name: "text", "number" (finite), "whole" (of 64 bits); with "?" it may be missing.
        what: names the record.
    """
    if not isinstance(record, dict):
        raise TypeError(f"{what} is no record")
    for name, kind in kinds.items():
        value = record.get(name)
        if not (_is(value, kind.rstrip("?")) or (value is None and kind.endswith("?"))):
            raise ValueError(f"{name} of {what} is {value!r:.40}")


def _is(value: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, int):
        return abs(value) <= LARGEST
    return kind == "number" and isfinite(value)
