"""The baseline file: which networks were right on which examples, and under which conditions."""

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
    """One network of the recorded model: its name, and the hash of its weights."""

    name: str
    weights: str


class Recorded(Frozen):
    """One recorded condition: how its images were made, and which examples were right.

    Attributes:
        source, version, data: as in `selbench.store.Cell`; `data` is "" for the data set's images.
        correct: for each network, base64 of one bit per example, the highest bit first.
        examples: the number of examples, if it differs from the baseline's.
    """

    source: str
    version: int
    data: str
    correct: tuple[str, ...]
    # Left out by default, so that old baselines do not change.
    examples: Count | None = Field(default=None, exclude_if=lambda number: number is None)


class Baseline(Frozen):
    """The recorded outcomes of a model.

    Attributes:
        selbench, torch: versions.
        study: name of the study, or "".
        subject: the model's name, such as "alpha=0"; `networks` are its networks, one per seed.
        model: architecture and options.
        training: fingerprint of the training; "" for a user's model.
        dataset: name of the data set.
        data: checksum of the full test split, which has `test` images.
        examples: the number of images used, in the order of `selbench.datasets.limited`.
        suites: the requested suites.
        corruptions, attacks: the names selected from the suites; () for all.
        conditions: by id, such as "corruptions/fog/3".
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
    # Left out by default, too.
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
    """Pack each network's row to base64."""
    return tuple(base64.b64encode(row.tobytes()).decode() for row in np.packbits(correct, axis=1))


def unpacked(text: str, examples: int) -> np.ndarray:
    """Return the bits of one network; raise `ValueError` if their number is not `examples`."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    bits = np.unpackbits(raw)
    if len(raw) != (examples + 7) // 8 or bits[examples:].any():
        raise ValueError(f"bits of {len(raw)} bytes are not those of {examples} examples")
    return bits[:examples].astype(np.bool_)


def write_baseline(baseline: Baseline, path: Path, force: bool = False) -> None:
    """Write a baseline; equal baselines have equal bytes.

    A file that is no baseline is only replaced with `force`.
    """
    check_file(path, BASELINE, "--output", force)
    content = _content(baseline)
    text = json.dumps(content | {"checksum": fingerprint(content)}, indent=1, sort_keys=True)
    write_text(path, text + "\n")


def read_baseline(path: Path, remedy: str = "") -> Baseline:
    """Read a baseline.

    Args:
        path: the file.
        remedy: how to write it, for messages; "" for the command `selbench baseline`.

    Raises:
        SelbenchError: if the file is missing, damaged or written by a newer version.
    """
    remedy = remedy or f"`selbench baseline -o {path}`"
    content = _read(path, remedy)
    written = content.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise SelbenchError(
            f"{path} has format {written} (written by selbench {content.get('selbench')}), this "
            f"version reads up to {FORMAT}; install a newer selbench or make a new baseline"
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
        raise SelbenchError(f"{path}: {twice}; make a new one with each network once")
    return baseline


def repeated(names: Sequence[str], weights: Sequence[str]) -> str:
    """Return which network is there twice, by the hash of its weights; "" for none."""
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
        f"{path} is damaged ({reason}); restore it from version control, or make a new one with "
        f"{remedy}"
    )


def facts(
    made: Mapping[str, Correct], known: Mapping[str, tuple[str, int, str]], examples: int
) -> dict[str, Recorded]:
    """Return recorded conditions from their bits, sources, versions and checksums of data.

    Their number of examples is left out if it is `examples`.
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
