"""Check the corruptions without randomness against published or other files."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from corruptions import CORRUPTIONS
from selbench._kit.crew import Map, crew
from selbench._kit.device import deterministic
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT, Progress, Step
from selbench.sets.layout import LABELS, SEVERITIES, npy_header, read_about
from selbench.sets.reading import Array, open_array
from selbench.sets.releases import OFFICIAL, PUBLISHED
from selbench.sets.source import Source
from selbench.sets.treatment import Treatment

AHEAD = 8  # batches that are corrupted ahead of the comparison


@dataclass
class Comparison:
    """How many values equal those of a file, and the largest difference.

    `severity` is None for labels.
    """

    severity: int | None
    equal: int = 0
    values: int = 0
    largest: int = 0

    def add(self, ours: Array, theirs: Array) -> None:
        """Count more values."""
        self.values += ours.size
        self.equal += int((ours == theirs).sum())
        difference = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        self.largest = max(self.largest, int(difference.max()))


@dataclass(frozen=True)
class Finding:
    """The result for a corruption, or for the labels.

    `published`: whether the md5 is the published one; None if none was published.
    """

    name: str
    published: bool | None
    beside: tuple[Comparison, ...] = ()


class FileDigest:
    """The md5 of a .npy file of uint8, built up in parts, with numpy's new and old header."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._digests = [
            hashlib.md5(header, usedforsecurity=False)
            for header in (npy_header(shape), old_npy_header(shape))
        ]

    def update(self, values: Array) -> None:
        """Append `values`."""
        for digest in self._digests:
            digest.update(values.data)

    def matches(self, md5: str) -> bool:
        """Return whether the file has this md5 with either header."""
        return md5 in {digest.hexdigest() for digest in self._digests}


def old_npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header that numpy wrote before version 1.14: padded to 16 bytes, not to 64."""
    facts = npy_header(shape)[10:].rstrip()
    length = len(facts) + 16 - (10 + len(facts) + 1) % 16 + 1
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + facts.ljust(length - 1) + b"\n"


@dataclass(frozen=True)
class OtherFiles:
    """Files in the layout "npy" to compare with.

    Attributes:
        folder: their folder.
        severities: the severities in every file.
        scale: the size whose constants were used, None if unknown.
        files: the values of each corruption.
        labels: None if the folder has none.
    """

    folder: Path | None = None
    severities: tuple[int, ...] = tuple(SEVERITIES)
    scale: int | None = None
    files: dict[str, Array] = field(default_factory=dict)
    labels: Array | None = None


def open_others(folder: Path, names: Sequence[str], source: Source) -> OtherFiles:
    """Map the files of `folder` that can be compared with corruptions of `source` into memory.

    Raises:
        SelbenchError: if there are none, one is cut off, or one does not have the shape of a set
            made from `source`.
    """
    about = read_about(folder)
    severities = tuple(SEVERITIES) if about is None else about.severities
    rows = len(severities) * len(source)
    paths = {name: folder / f"{name}.npy" for name in names}
    shape = (rows, *source.size(), 3)
    files = {name: _open(path, shape) for name, path in paths.items() if path.is_file()}
    if not files:
        raise SelbenchError(f"{folder} holds no {' or '.join(p.name for p in paths.values())}")
    labelled = source.labels is not None and (folder / LABELS).is_file()
    labels = _open(folder / LABELS, (rows,)) if labelled else None
    return OtherFiles(folder, severities, None if about is None else about.scale, files, labels)


def _open(path: Path, shape: tuple[int, ...]) -> Array:
    array = open_array(path, len(shape))
    if array.shape != shape or (array.ndim > 1 and array.dtype != np.uint8):
        raise SelbenchError(
            f"{path} holds {array.dtype} of shape {array.shape}; expected is uint8 of shape {shape}"
        )
    return array


def fixed_corruptions(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the corruptions of `chosen` without randomness; raise `SelbenchError` for none."""
    able = [name for name, each in CORRUPTIONS.items() if not (each.random or each.bar)]
    fixed = tuple(name for name in chosen if name in able)
    if not fixed:
        known = ", ".join(able)
        raise SelbenchError(
            f"{' and '.join(chosen)} draw random numbers or are of C-bar; --self-check compares "
            f"{known}"
        )
    return fixed


def check(
    source: Source,
    chosen: Sequence[str],
    scale: int | None,
    against: Path | None,
    device: torch.device,
    progress: Progress = SILENT,
) -> list[Finding]:
    """Make corruptions in the layout "npy", in memory, and compare them with existing files.

    Corruptions of CIFAR are compared with the md5 of the published files, and those with a file in
    `against` value by value with this file.

    Raises:
        SelbenchError: if there is nothing to compare with or it does not fit, and for labels that
            are not CIFAR's.
    """
    names = fixed_corruptions(chosen)
    published = PUBLISHED.get(source.name, {})
    if not published and against is None:
        raise SelbenchError(
            f"the published md5s are those of {' and '.join(PUBLISHED)}; give --against FOLDER to "
            f"compare the corruptions of {source.name} with the .npy files in a folder"
        )
    others = OtherFiles() if against is None else open_others(against, names, source)
    if not published:
        names = tuple(others.files)
    severities = tuple(SEVERITIES) if published else others.severities
    treatment = Treatment(names, severities, scale=others.scale if scale is None else scale).fitted(
        {source.size()}
    )
    findings = _check_labels(source, published.get("labels"), others)
    with (
        deterministic(device),
        progress.track("check", len(names) * len(severities) * len(source)) as step,
        crew(True, device, step) as (run_all, safe_step),
    ):
        maker = _Maker(source, treatment, device, run_all, safe_step)
        findings += [_check(maker, name, published.get(name), others) for name in names]
    return findings


def _check_labels(source: Source, published: str | None, others: OtherFiles) -> list[Finding]:
    if source.labels is None:
        return []
    labels = source.labels.numpy()
    if published:
        digest = FileDigest((len(SEVERITIES) * len(source),))
        digest.update(np.tile(labels.astype(np.uint8), len(SEVERITIES)))
        if not digest.matches(published):
            raise SelbenchError(
                f"the labels are not those of {OFFICIAL[source.name]}, so these are not its test "
                f"images in their order; run `selbench download {source.name}`, or give "
                "their folder with --data"
            )
    beside = []
    if others.labels is not None:
        beside.append(Comparison(None))
        beside[0].add(np.tile(labels, len(others.severities)), others.labels)
    return (
        [Finding("labels", True if published else None, tuple(beside))]
        if published or beside
        else []
    )


@dataclass(frozen=True)
class _Maker:
    source: Source
    treatment: Treatment
    device: torch.device
    run_all: Map[range, Array]
    step: Step

    def make(self, name: str, severity: int) -> Iterator[tuple[range, Array]]:
        """Yield the images of a level in order, with their positions."""

        def make(rows: range) -> Array:
            images = self.treatment.apply(self.source, rows, name, severity, self.device)
            self.step(len(rows), f"{name} {severity}")
            array: Array = images.permute(0, 2, 3, 1).contiguous().numpy()
            return array

        batches = self.source.batches(self.device)
        for start in range(0, len(batches), AHEAD):
            part = batches[start : start + AHEAD]
            yield from zip(part, self.run_all(make, part), strict=True)


def _check(maker: _Maker, name: str, published: str | None, others: OtherFiles) -> Finding:
    source, severities = maker.source, maker.treatment.severities
    digest = FileDigest((len(severities) * len(source), *source.size(), 3))
    theirs, beside = others.files.get(name), []
    for severity in severities:
        comparison = Comparison(severity)
        for rows, images in maker.make(name, severity):
            if published:
                digest.update(images)
            if theirs is not None and severity in others.severities:
                first = others.severities.index(severity) * len(source)
                comparison.add(images, theirs[first + rows.start : first + rows.stop])
        if comparison.values:
            beside.append(comparison)
    return Finding(name, digest.matches(published) if published else None, tuple(beside))


def to_table(findings: Sequence[Finding]) -> Table:
    """Return the table of findings: one row each, with the values compared per severity."""
    table = Table("corruption", box=None, header_style="bold")
    compared = any(finding.beside for finding in findings)
    published = any(finding.published is not None for finding in findings)
    if compared:
        table.add_column("severity", justify="right")
    if published:
        table.add_column("md5")
    if compared:
        table.add_column("equal values %", justify="right")
        table.add_column("largest difference", justify="right")
    words = {True: "equal", False: "differs", None: ""}
    for finding in findings:
        first = [words[finding.published]] if published else []
        rows = [_shown(each) for each in finding.beside] or [["", "", ""]]
        for number, (severity, equal, largest) in enumerate(rows):
            name, md5 = (finding.name, first) if number == 0 else ("", [""] * len(first))
            table.add_row(name, *([severity, *md5, equal, largest] if compared else md5))
    return table


def _shown(comparison: Comparison) -> list[str]:
    severity = "" if comparison.severity is None else str(comparison.severity)
    return [severity, _percent(comparison.equal, comparison.values), str(comparison.largest)]


def _percent(equal: int, values: int) -> str:
    """Return a share in percent, which is 100 only if all values are equal."""
    return "100" if equal == values else f"{math.floor(equal / values * 1e6) / 1e4:.4f}"


def summary(findings: Sequence[Finding], against: Path | None) -> str:
    """Return the result in a sentence or two."""
    made = [finding for finding in findings if finding.name != "labels"]
    sentences = []
    known = [finding for finding in made if finding.published is not None]
    if known:
        different = [finding.name for finding in known if not finding.published]
        sentences.append(
            f"{len(known) - len(different)} of {len(known)} corruptions equal the published files "
            "byte for byte" + (f" (not {', '.join(different)})" if different else "") + "."
        )
    levels = [(finding.name, each) for finding in made for each in finding.beside]
    if levels:
        equal, values = (sum(getattr(c, what) for _, c in levels) for what in ("equal", "values"))
        name, worst = max(levels, key=lambda each: each[1].largest)
        where = f" ({name} at severity {worst.severity})" if worst.largest else ""
        sentences.append(
            f"{_percent(equal, values)} % of the values in {against} are equal, the largest "
            f"difference is {worst.largest}{where}."
        )
    return " ".join(sentences)
