"""Class maps: from a network's outputs to the classes of a data set."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError, in_short, unknown
from selbench._kit.types import Images, Logits
from selbench.datasets import Dataset

Outputs = tuple[tuple[int, ...], ...]  # of each class, from 0
MAP = 2**26  # bytes of a class map, at most
DIGITS = 9  # digits of an output's number


class MappedClasses(nn.Module):
    """Turn a network's outputs into the logits of a data set's classes.

    A class with several outputs has the sum of their probabilities; other outputs are left out.
    """

    def __init__(self, network: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, images: Images) -> Logits:
        logits = self.network(images)
        return torch.stack([logits[:, list(group)].logsumexp(1) for group in self.outputs], 1)


def other_number(name: str, outputs: int, dataset: Dataset) -> SelbenchError:
    """Return the error for a network with another number of outputs than there are classes."""
    return SelbenchError(
        f"{name} has {outputs} outputs, the data set {dataset.name} {len(dataset.classes)} "
        "classes; map outputs to classes with --class-map (a CSV file with the columns output and "
        "class), or use a network for these classes"
    )


def read_class_map(path: Path, classes: Sequence[str]) -> Outputs:
    """Read a class map: for each output, its class among `classes`.

    Args:
        path: a JSON object from output to class, or a CSV file with the columns `output` and
            `class`; outputs are numbered from 0, classes have the data set's names.
        classes: the classes of the data set.

    Raises:
        SelbenchError: for a damaged file, an unknown class, a class without an output, and an
            output that is no number or is there twice.
    """
    found: dict[str, list[int]] = {name: [] for name in classes}
    seen: set[int] = set()
    for output, name in _pairs(path):
        if name not in found:
            raise unknown(f"class in {path}", name, classes)
        number = _number(path, output)
        if number in seen:
            raise SelbenchError(f"{path}: the output {output!r} is there twice; map it once")
        seen.add(number)
        found[name].append(number)
    empty = [name for name, outputs in found.items() if not outputs]
    if empty:
        raise SelbenchError(
            f"{path} has no output for the class {empty[0]!r}; map one to each of the data set's "
            f"{len(classes)} classes"
        )
    return tuple(tuple(sorted(outputs)) for outputs in found.values())


def _number(path: Path, output: str) -> int:
    if not output.isdecimal() or len(output) > DIGITS:
        raise SelbenchError(
            f"{path}: the output {output!r:.40} is no whole number from 0 of up to {DIGITS} "
            "digits; count the network's outputs from 0"
        )
    return int(output)


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Return the pairs (output, class) as written."""
    try:
        text = content_of(path, MAP, "class map").decode(
            "utf-8-sig"
        )  # spreadsheets write a byte order mark
    except (FileNotFoundError, UnicodeDecodeError) as problem:
        raise SelbenchError(f"cannot read the class map {path}: {in_short(problem)}") from problem
    read = _pairs_of_csv if path.suffix.lower() == ".csv" else _pairs_of_json
    return read(path, text)


def _pairs_of_csv(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        rows = list(csv.DictReader(text.splitlines()))
    except csv.Error as problem:
        raise SelbenchError(f"{path} is not valid CSV: {in_short(problem)}") from problem
    if not rows or not {"output", "class"} <= rows[0].keys():
        raise SelbenchError(f"{path} needs a first line with output,class and rows below it")
    return [(str(row["output"]).strip(), str(row["class"]).strip()) for row in rows]


def _pairs_of_json(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        content = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as problem:  # not JSON, or numbers or nesting too long
        raise SelbenchError(f"{path} is not valid JSON: {in_short(problem)}") from problem
    if not isinstance(content, list) or not all(isinstance(each, tuple) for each in content):
        raise SelbenchError(
            f'{path} is no JSON object from output to class, such as {{"0": "cat", "1": "dog"}}'
        )
    for output, name in content:
        if isinstance(name, list):  # str() would recurse without end
            raise SelbenchError(
                f"{path}: the output {output!r:.40} has a list for a class; name one class"
            )
    return [(output, str(name)) for output, name in content]
