"""What networks saw: test images, corrupted ones, adversarial ones and what attacks added."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from PIL import Image as Picture
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from corruptions import CORRUPTIONS, bar_corruptions, corrupt
from selbench._kit.errors import SelbenchError, in_short
from selbench._kit.files import at_hand, replacing
from selbench._kit.frozen import Frozen, first_problem
from selbench.datasets import Dataset, limited, load_dataset
from selbench.report.evidence import Evidence
from selbench.store import Cell
from selbench.study import CorruptionSpec, DatasetSpec

Spec = TypeVar("Spec", bound=Frozen)

FOLDER = "images"
ATTACKS = ("pgd-linf", "fgsm-linf", "pgd-l2", "paper-pgd")  # the first that there is
LEVEL = 8.0  # of the budget; the nearest that there is
IMAGES = 4
MOST = 5  # networks
FACTORS = (1, 2, 5, 10, 20, 50, 100)
SMALL = 64  # pixels a side, up to which all severities are shown
SIZE = 72  # CSS pixels that an image takes at least


@dataclass(frozen=True)
class Tile:
    """A picture of the page: its path, what it shows, what stands below it, CSS pixels a side."""

    path: str
    words: str
    below: str
    size: int


@dataclass(frozen=True)
class Strip:
    """A row of pictures under a heading."""

    heading: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Panel:
    """A table of pictures, or why there is none and what makes some.

    Attributes:
        text: how they were made.
        columns: headings.
        strips: rows.
        command: where there are none, what makes some.
    """

    text: str
    columns: list[str]
    strips: list[Strip]
    command: str = ""


def corrupted(evidence: Evidence, folder: Path, data: Path | None) -> Panel:
    """Corrupt one test image as the study does, at every severity, into `folder`/images."""
    try:
        spec = _spec(CorruptionSpec, evidence.manifest.get("study", {}).get("corruptions", {}))
        if spec.source != "generated":
            return Panel(
                f"This study took its corrupted images from disk ({spec.source}); look there.",
                [],
                [],
            )
        image, example, label = _first_image(evidence, data)
        bar = any(name.startswith("corruptions-bar/") for name in evidence.manifest["conditions"])
        more = bar_corruptions(spec.scale or image.shape[2]) if bar else ()
        return _corrupted(folder, image, example, label, spec, more)
    except SelbenchError as problem:
        again = evidence.command("report", evidence.study, "--data", "FOLDER", "--output", "site")
        return Panel(f"The test images cannot be shown: {problem}.", [], [], again)


def _corrupted(
    folder: Path,
    image: Tensor,
    example: Tensor,
    label: str,
    spec: CorruptionSpec,
    bar: Sequence[str],
) -> Panel:
    small = max(image.shape[-2:]) <= SMALL
    severities = (1, 2, 3, 4, 5) if small else (1, 3, 5)
    clean = _tile(folder, "clean", image[0], f"{label}, clean", "clean")
    strips = [Strip("none", [clean])]
    for name in [*(name for name, each in CORRUPTIONS.items() if not each.extra), *bar]:
        tiles = []
        for severity in severities:
            try:
                made = corrupt(image, name, severity, examples=example, scale=spec.scale)[0]
            except ValueError as problem:
                raise SelbenchError(str(problem)) from problem
            words = f"{label} under {name.replace('_', ' ')}, severity {severity}"
            tiles.append(_tile(folder, f"{name}-{severity}", made, words, ""))
        strips.append(Strip(name.replace("_", " "), tiles))
    whose = "the benchmark's and C-bar's corruptions" if bar else "the benchmark's corruptions"
    text = f"A {label} under {whose}, made as in the study."
    return Panel(text, ["severity", *map(str, severities)], strips)


def _first_image(evidence: Evidence, data: Path | None) -> tuple[Tensor, Tensor, str]:
    """Return the first test image that was used, uint8 in a batch, its position, and words."""
    dataset = _dataset(evidence, data)
    test = limited(dataset.test, evidence.judgement.about.limit)
    label = f"test image of class {dataset.classes[int(test.labels[0])]}"
    return test.images[:1], test.examples[:1], label


def _spec(kind: type[Spec], facts: dict[str, Any]) -> Spec:
    """Read what a manifest says of a study."""
    try:
        return kind.model_validate(facts)
    except ValidationError as problem:
        first = first_problem(problem)
        where = ".".join(map(str, first["loc"]))
        words = f"the manifest is not of this version ({where}: {first['msg']})"
        raise SelbenchError(words) from problem


def _dataset(evidence: Evidence, data: Path | None) -> Dataset:
    facts = evidence.manifest.get("study", {}).get("dataset")
    if facts is None:
        raise SelbenchError("the manifest does not say which data set was used")
    root = facts.get("root") if data is None else str(data.expanduser().absolute())
    dataset = load_dataset(_spec(DatasetSpec, {**facts, "root": root}))
    if dataset.test.checksum != evidence.manifest["data"]:
        raise SelbenchError(
            f"the test images of {dataset.name} are others than those that were measured "
            f"(checksum {dataset.test.checksum}, not {evidence.manifest['data']})"
        )
    return dataset


def adversarial(evidence: Evidence, folder: Path) -> Panel:
    """Show images that attacks made of test images, and what they changed, into `folder`/images."""
    kept = _attacked_networks(evidence)
    attack = next((name for name in ATTACKS if (kept["condition"] == name).any()), None)
    if attack is None:
        command = evidence.making("attacks", words=("--save-adversarials", "8"))
        return Panel("No adversarial images were kept.", [], [], command)
    chosen = kept[kept["condition"] == attack]
    files = {
        _called(subject): _opened(path)
        for subject, path in zip(chosen["subject"], chosen["path"], strict=True)
    }
    level = _nearest(files)
    if level is None:
        return Panel("The networks kept adversarial images of different budgets.", [], [], "")
    most = max(float(_moved(tensors, level).abs().max()) for tensors in files.values())
    factor = max((f for f in FACTORS if f * most <= 0.5), default=1)  # grey, plus or minus half
    budget = f"after {level:g} steps" if attack == "paper-pgd" else f"epsilon {level:g}/255"
    text = (
        f"Attack {attack}, {budget}, on one network of each alpha. The difference is "
        f"(adversarial - clean) x {factor}, grey where nothing changed."
    )
    columns = ["clean", *(f"{name}: {kind}" for name in files for kind in ("image", "difference"))]
    strips = [_strip(folder, files, number, level, factor) for number in _chosen(files)]
    return Panel(text, ["label", *columns], strips)


def _chosen(files: dict[str, dict[str, Tensor]]) -> list[int]:
    """Return the places of a few images, of different classes where there are some."""
    kept = min((tensors["label"] for tensors in files.values()), key=len)  # by all of them
    labels = kept.tolist()
    first = [labels.index(label) for label in dict.fromkeys(labels)]
    rest = [number for number in range(len(labels)) if number not in first]
    return sorted([*first, *rest][:IMAGES])


def _strip(
    folder: Path, files: dict[str, dict[str, Tensor]], number: int, level: float, factor: int
) -> Strip:
    first = next(iter(files.values()))
    label = int(first["label"][number])
    about = f"test image {int(first['example'][number])}, class {label}"
    tiles = [_tile(folder, f"test-{number}", first["clean"][number], f"{about}, clean", "")]
    for place, (name, tensors) in enumerate(files.items()):
        image, key = tensors[f"adversarial {level:g}"][number], f"prediction {level:g}"
        predicted = int(tensors[key][number])
        fooled = f"taken for {predicted}" if predicted != label else f"still {predicted}"
        words = f"{about}, attacked on {name}: {fooled}"
        tiles.append(_tile(folder, f"attacked-{number}-{place}", image, words, fooled))
        moved = (0.5 + factor * _moved(tensors, level)[number]).clamp(0, 1)
        words = f"what the attack on {name} changed in it, times {factor}"
        tiles.append(_tile(folder, f"changed-{number}-{place}", moved, words, f"x {factor}"))
    return Strip(f"class {label}", tiles)


def _moved(tensors: dict[str, Tensor], level: float) -> Tensor:
    return tensors[f"adversarial {level:g}"] - tensors["clean"]


def _nearest(files: dict[str, dict[str, Tensor]]) -> float | None:
    """Return the level nearest to `LEVEL` of which all networks kept adversarials; None of none."""
    common = set.intersection(*map(set, files.values()))
    names = [name.split()[1] for name in common if name.startswith("adversarial ")]
    return min(map(float, names), key=lambda level: (abs(level - LEVEL), level), default=None)


def _called(subject: str) -> str:
    """Name a network in a table: "alpha = -1", or a file."""
    alpha, _, seed = subject.partition(" seed=")
    return alpha.replace("=", " = ") if seed else Path(subject).name


def _attacked_networks(evidence: Evidence) -> pd.DataFrame:
    """Return the first network of every alpha of whose attacks images are kept, with their files.

    At most five: the outermost ones, alpha = 0, and what lies between.
    """
    rows = evidence.rows[evidence.rows["condition"].isin(ATTACKS)]
    rows = rows.drop_duplicates([*Cell.__dataclass_fields__])
    folder = evidence.store.folder / "adversarials"
    cells = _cells(rows[[*Cell.__dataclass_fields__]])
    paths = [folder / f"{cell.condition}-{cell.key}.safetensors" for cell in cells]
    rows = rows.assign(path=pd.Series(paths, rows.index, object))
    kept = {path.name for path in folder.glob("*.safetensors")}
    saved = pd.Series([path.name in kept for path in paths], rows.index, bool)
    there = rows[saved].drop_duplicates(["condition", "subject"])
    ordered = there.sort_values(["alpha", "seed", "subject"], na_position="last")
    first = ordered.drop_duplicates(["condition", "alpha"])
    return first.groupby("condition", group_keys=False)[list(first.columns)].apply(_spread)


def _spread(part: pd.DataFrame) -> pd.DataFrame:
    zero = [place for place, alpha in enumerate(part["alpha"]) if alpha == 0]
    between = np.linspace(0, len(part) - 1, MOST).round().astype(int)
    return part.iloc[sorted(list(dict.fromkeys([*zero, 0, len(part) - 1, *between]))[:MOST])]


def _cells(rows: pd.DataFrame) -> list[Cell]:
    """Return rows as the cells that they are of."""
    plain = rows.astype(object).where(rows.notna(), None)
    cells = []
    for values in plain.itertuples(index=False, name=None):
        facts: dict[str, Any] = dict(zip(map(str, rows.columns), values, strict=True))
        integers = {n: int(facts[n]) for n in ("limit", "seed") if facts[n] is not None}
        cells.append(Cell(**facts | integers))
    return cells


def _opened(path: Path) -> dict[str, Tensor]:
    try:
        with at_hand(path) as near:
            return dict(safetensors.torch.load_file(near))
    except (OSError, SafetensorError) as problem:
        raise SelbenchError(
            f"{path} is damaged ({in_short(problem)}); delete it and run again"
        ) from problem


def _tile(folder: Path, name: str, image: Tensor, words: str, below: str) -> Tile:
    """Write an image, uint8 or in [0, 1], as a PNG."""
    scaled = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
    path = f"{FOLDER}/{name}.png"
    with replacing(folder / path, "--output") as temporary:
        Picture.fromarray(scaled.permute(1, 2, 0).cpu().numpy()).save(temporary, format="PNG")
    return Tile(path, words, below, max(SIZE, min(image.shape[-1], 128)))
