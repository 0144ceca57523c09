"""Results on disk: what was measured, of whom, under what; written whole or not at all.

A store is a folder with one folder per study:

    runs/selbench.json                    the store's format
    runs/<study>/cells/<key>.json         cells that were evaluated together: facts, measurements
    runs/<study>/cells/<key>.parquet      their outcomes, one row per subject and example
    runs/<study>/adversarials/            images that networks err on, where they are asked for
    runs/<study>/measurements.csv         every measurement, tidy; made from the cells
    runs/<study>/manifest.json            how they were made; written last

A cell is one subject under one condition. Its key is a content hash of everything that its numbers
depend on, so a cell is evaluated once, and an interrupted run goes on where it stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from selbench.errors import SelbenchError, unknown
from selbench.files import fingerprint, read_json, replacing, write_json, write_text

FORMAT = 2
MEASURED = ("layer", "layer_name", "metric", "value", "error", "n")
MANIFEST = {"data", "training", "conditions", "subjects"}  # what tables read of a manifest


@dataclass(frozen=True)
class Measurement:
    """One number: `metric` of a cell, over `n` examples.

    Attributes:
        layer: the layer's place in the network, from 1; None for the whole network.
        layer_name: what the layer is called there.
        error: standard error of `value`, where it is an estimate of what could be computed exactly.
    """

    metric: str
    value: float
    n: int
    layer: int | None = None
    layer_name: str | None = None
    error: float | None = None


@dataclass(frozen=True)
class Cell:
    """One subject under one condition; every attribute is a column of `measurements.csv`.

    Attributes:
        suite: what kind of condition it is: "clean", "corruptions", "corruptions-extra", "attacks".
        condition: such as "gaussian_noise", or "clean".
        level: severity, epsilon in 255ths or number of steps; None where there is none.
        group: the corruption's family, the attack's norm, or "".
        source: where perturbed images come from: "original", "generated", a variant, "official",
            "files" on disk.
        version: of the condition's code.
        data: checksum of the test images and labels, or of those on disk that replace them.
        limit: how many of them were taken; None for all.
        subject: the network's name, such as "alpha=-1 seed=0" or a file's path.
        alpha: its regulariser strength; None for a brought network.
        seed: its seed; None for a brought network.
        training: fingerprint of its training; "" for a brought network.
        architecture: of the network.
        weights: hash of the network's weights.
        helper: hash of the weights of the network that an attack was transferred from, or "".
    """

    suite: str
    condition: str
    level: float | None
    group: str
    source: str
    version: int
    data: str
    limit: int | None
    subject: str
    alpha: float | None
    seed: int | None
    training: str
    architecture: str
    weights: str
    helper: str = ""

    @property
    def key(self) -> str:
        """Content hash of everything that the cell's numbers depend on."""
        return fingerprint(asdict(self))


def condition_id(suite: str, condition: str, level: float | None) -> str:
    """Name a condition in one word, such as "corruptions/fog/3"."""
    return f"{suite}/{condition}" if level is None else f"{suite}/{condition}/{level:g}"


@dataclass(frozen=True)
class Result:
    """A cell with what was measured in it."""

    cell: Cell
    measurements: Sequence[Measurement]


class StudyStore:
    """The results of one study.

    Args:
        root: the store's folder.
        study: the study's name.
        made: how results come about (device, versions, command), kept beside those written.
    """

    def __init__(self, root: Path, study: str, made: dict[str, Any] | None = None) -> None:
        self.study = study
        self._made = made or {}
        self.folder = root / study
        self._cells = self.folder / "cells"
        self._root = root

    @property
    def finished(self) -> bool:
        """Whether a run came to its end here."""
        return (self.folder / "manifest.json").is_file()

    def prepare(self) -> None:
        """Mark the folder as a store; one that cannot be written or read is a `SelbenchError`."""
        _check_format(self._root)
        write_json(self._root / "selbench.json", {"format": FORMAT})

    def keys(self) -> set[str]:
        """Return the keys of all cells that were evaluated."""
        return {record["key"] for record in self._records()}

    def write(self, results: Sequence[Result], outcomes: pa.Table | None = None) -> None:
        """Keep cells that were evaluated together; `outcomes` are the rows behind them, if any."""
        records = [
            {
                "key": result.cell.key,
                "cell": asdict(result.cell),
                # JSON has no infinity: what a diverged network makes of a metric is left out.
                "measurements": [asdict(m) for m in result.measurements if isfinite(m.value)],
            }
            for result in results
        ]
        path = self._cells / f"{fingerprint([record['key'] for record in records])}.json"
        if outcomes is not None:
            with replacing(path.with_suffix(".parquet")) as temporary:
                pq.write_table(outcomes, temporary, compression="zstd")
        write_json(
            path, {"made": self._made, "cells": records}
        )  # last: a cell without it was never evaluated

    def saved(self, cell: Cell) -> int:
        """Return of how many images adversarials are kept, told by a cell of the attack."""
        path = self._adversarials(cell)
        if not path.is_file():
            return 0
        with safe_open(path, framework="pt") as file:
            return int(file.get_slice("label").get_shape()[0])

    def save(self, cell: Cell, tensors: dict[str, Tensor]) -> None:
        """Keep adversarials of an attack, told by a cell of it."""
        about = {"attack": cell.condition, "subject": cell.subject, "weights": cell.weights}
        with replacing(self._adversarials(cell)) as temporary:
            safetensors.torch.save_file(tensors, temporary, about)

    def _adversarials(self, cell: Cell) -> Path:
        # Other images, another helper or version are another key.
        return self.folder / "adversarials" / f"{cell.condition}-{cell.key}.safetensors"

    def measurements(self) -> pd.DataFrame:
        """Return every measurement, one row each: the cell's columns, and those of `MEASURED`."""
        rows = [
            {**record["cell"], **measurement}
            for record in self._records()
            for measurement in record["measurements"]
        ]
        columns = [*Cell.__dataclass_fields__, *MEASURED]
        table = pd.DataFrame(rows, columns=columns)
        kinds = dict.fromkeys(("limit", "seed", "layer"), "Int64")
        kinds |= dict.fromkeys(("level", "alpha", "error"), "float64")
        return table.astype(kinds).sort_values(columns, ignore_index=True, kind="stable")

    def outcomes(self) -> pa.Table:
        """Return the outcomes of all cells, one row per cell and example.

        Columns: key (of the cell), example (position in the test set), label, prediction,
        confidence (its probability), margin (logit of the label minus the largest other logit) and
        loss (cross-entropy).
        """
        paths = [path.with_suffix(".parquet") for path in self._files()]
        return pa.concat_tables([pq.read_table(path) for path in paths if path.is_file()])

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write `measurements.csv` and then the manifest."""
        write_text(self.folder / "measurements.csv", self.measurements().to_csv(index=False))
        write_json(self.folder / "manifest.json", manifest)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the latest run; a damaged one raises `SelbenchError`."""
        path = self.folder / "manifest.json"
        content = read_json(path)
        if not isinstance(content, dict) or not content.keys() >= MANIFEST:
            raise SelbenchError(f"{path} is damaged; delete it and run the study again")
        return content

    def _files(self) -> list[Path]:
        return sorted(self._cells.glob("*.json"))

    def _records(self) -> Iterator[dict[str, Any]]:
        """Yield every evaluated cell as it was written."""
        for path in self._files():
            content = read_json(path)
            try:
                yield from content["cells"]
            except (KeyError, TypeError) as problem:
                raise SelbenchError(
                    f"{path} is damaged; delete it and run the same command again"
                ) from problem


def open_studies(root: Path, name: str | None = None) -> list[StudyStore]:
    """Return the studies of a store that have a manifest; `name` chooses one.

    Raises:
        SelbenchError: where there is no such store or study, or another version wrote it.
    """
    _check_format(root)
    names = sorted(path.parent.name for path in root.glob("*/manifest.json"))
    if not names:
        raise SelbenchError(
            f"there are no results in {root}; make some with `selbench run`, or say --store"
        )
    if name is not None and name not in names:
        raise unknown(f"study in the store {root}", name, names)
    return [StudyStore(root, each) for each in names if name in (None, each)]


def _check_format(root: Path) -> None:
    marker = root / "selbench.json"
    if not marker.exists():
        return
    content = read_json(marker)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise SelbenchError(
            f"the store {root} has format {found}, this version of selbench reads format {FORMAT}; "
            "use the version that wrote it, or another folder with --store"
        )
