"""The baseline file: who was right on which example, when, and on what."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint, write_text
from selbench._kit.frozen import Frozen, first_problem
from selbench._kit.outputs import BASELINE, check_file
from selbench.regression.comparison import Correct

FORMAT = 1
Count = Annotated[int, Field(ge=1)]


class RecordedNetwork(Frozen):
    """One network of the model: its name, and the hash of its weights."""

    name: str
    weights: str


class Recorded(Frozen):
    """One condition: how its images were made, and every network's bits.

    Attributes:
        source, version, data: as in `selbench.store.Cell`; `data` is "" for the data set's images.
        correct: of each network, base64 of one bit per example, the first in the highest place.
        examples: how many they are, where that is not the baseline's number.
    """

    source: str
    version: int
    data: str
    correct: tuple[str, ...]
    # Left out where it says nothing: baselines stay as they were.
    examples: Count | None = Field(default=None, exclude_if=lambda number: number is None)


class Baseline(Frozen):
    """What a model could do.

    Attributes:
        selbench, torch: versions.
        study: name of the study, or "" where there was none.
        subject: the model's name, such as "alpha=0"; `networks` are it with several seeds.
        model: architecture and options.
        training: fingerprint of how it was trained; "" for a brought model.
        dataset: name of the data set.
        data: checksum of its whole test split, which holds `test` images.
        examples: how many of them were taken, in the order of `selbench.datasets.limited`.
        suites: that were asked for.
        corruptions, attacks: the names that were taken of those in the suites; () for all.
        conditions: by their ids, such as "corruptions/fog/3".
    """

    selbench: str
    torch: str
    study: str
    subject: str
    model: dict[str, str | int | float | bool]
    training: str
    dataset: str
    data: str
    test: Count
    examples: Count
    suites: Annotated[tuple[str, ...], Field(min_length=1)]
    # Left out where they say nothing, too.
    corruptions: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    attacks: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    networks: Annotated[tuple[RecordedNetwork, ...], Field(min_length=1)]
    conditions: Annotated[dict[str, Recorded], Field(min_length=1)]

    @property
    def partial(self) -> bool:
        """Whether some conditions of its suites were left out on purpose."""
        return bool(self.corruptions or self.attacks)

    def correct(self) -> dict[str, Correct]:
        """Return networks x examples for every condition, in the order of their ids."""
        return {
            name: np.stack(
                [unpacked(text, recorded.examples or self.examples) for text in recorded.correct]
            )
            for name, recorded in sorted(self.conditions.items())
        }


def packed(correct: Correct) -> tuple[str, ...]:
    """Pack every network's row to base64."""
    return tuple(base64.b64encode(row.tobytes()).decode() for row in np.packbits(correct, axis=1))


def unpacked(text: str, examples: int) -> np.ndarray:
    """Return the bits of one network; raises `ValueError` where they are not `examples` many."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    bits = np.unpackbits(raw)
    if len(raw) != (examples + 7) // 8 or bits[examples:].any():
        raise ValueError(f"bits of {len(raw)} bytes are not those of {examples} examples")
    return bits[:examples].astype(np.bool_)


def write_baseline(baseline: Baseline, path: Path, force: bool = False) -> None:
    """Write a baseline; equal baselines are equal bytes.

    It takes the place of a file that is none with `force` alone.
    """
    check_file(path, BASELINE, "--output", force)
    content = _content(baseline)
    text = json.dumps(content | {"checksum": fingerprint(content)}, indent=1, sort_keys=True)
    write_text(path, text + "\n")


def read_baseline(path: Path, remedy: str = "") -> Baseline:
    """Read a baseline.

    Args:
        path: of the file.
        remedy: what writes it, for messages; "" for the command line's `selbench baseline`.

    Raises:
        SelbenchError: where there is none, where it is damaged, or where a newer version wrote it.
    """
    remedy = remedy or f"`selbench baseline -o {path}`"
    content = _read(path, remedy)
    written = content.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise SelbenchError(
            f"{path} has format {written} (written by selbench {content.get('selbench')}), this "
            f"version reads up to {FORMAT}; install a newer selbench or make the baseline anew"
        )
    if written != FORMAT:
        raise SelbenchError(f"{path} is no baseline of selbench; make one with {remedy}")
    return _checked(content, path, remedy)


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(content_of(path, noun="baseline").decode())
    except FileNotFoundError as problem:
        raise SelbenchError(f"there is no baseline {path}; make it with {remedy}") from problem
    except (ValueError, RecursionError) as problem:
        raise _damaged(path, "it is not JSON", remedy) from problem
    if not isinstance(content, dict):
        raise _damaged(path, "it is not a JSON object", remedy)
    return content


def _checked(content: dict[str, Any], path: Path, remedy: str) -> Baseline:
    body = {name: value for name, value in content.items() if name not in ("format", "checksum")}
    try:
        if content.get("checksum") != fingerprint(body | {"format": FORMAT}):
            raise _damaged(path, "its checksum does not fit its content", remedy)
        baseline = Baseline.model_validate(body)
        baseline.correct()
    except ValidationError as problem:
        error = first_problem(problem)
        where = ".".join(map(str, error["loc"]))
        raise _damaged(path, f"{where}: {error['msg']}", remedy) from problem
    except (ValueError, binascii.Error) as problem:
        raise _damaged(path, str(problem), remedy) from problem
    _check_rows(baseline, path, remedy)
    names, weights = zip(*((each.name, each.weights) for each in baseline.networks), strict=True)
    twice = repeated(names, weights)
    if twice:
        raise SelbenchError(f"{path}: {twice}; make it anew of each network once")
    return baseline


def repeated(names: Sequence[str], weights: Sequence[str]) -> str:
    """Say which network is there twice, by the hash of its weights; "" where none is."""
    first: dict[str, str] = {}
    for name, each in zip(names, weights, strict=True):
        if each in first:
            also = "" if name == first[each] else f" (as {name} too)"
            return f"{first[each]} is there twice{also}"
        first[each] = name
    return ""


def _check_rows(baseline: Baseline, path: Path, remedy: str) -> None:
    for name, recorded in baseline.conditions.items():
        if len(recorded.correct) != len(baseline.networks):
            raise _damaged(
                path,
                f"{name} has bits of {len(recorded.correct)} networks, not of "
                f"{len(baseline.networks)}",
                remedy,
            )


def _content(baseline: Baseline) -> dict[str, Any]:
    return baseline.model_dump(mode="json") | {"format": FORMAT}


def _damaged(path: Path, reason: str, remedy: str) -> SelbenchError:
    return SelbenchError(
        f"{path} is damaged ({reason}); take it from version control again, or make it anew with "
        f"{remedy}"
    )


def facts(
    made: Mapping[str, Correct], known: Mapping[str, tuple[str, int, str]], examples: int
) -> dict[str, Recorded]:
    """Return conditions with their bits, and with source, version and data of each.

    Most have `examples`.
    """
    return {
        name: Recorded(
            source=known[name][0],
            version=known[name][1],
            data=known[name][2],
            correct=packed(correct),
            examples=None if correct.shape[1] == examples else correct.shape[1],
        )
        for name, correct in made.items()
    }
