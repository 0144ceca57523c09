"""A study: the immutable description of data, networks, training and evaluation."""

import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import read_toml
from selbench._kit.frozen import Frozen, first_problem

Alphas = Annotated[tuple[float, ...], Field(min_length=1)]
NAME = 200  # characters of a study's name, which is also a folder's
MAX_SEED = 2**63 - 1  # the largest whole number in a column
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...], Field(min_length=1)]
Suites = Annotated[tuple[str, ...], Field(min_length=1)]
Side = Annotated[int, Field(ge=1, le=4096)]  # pixels
Channels = tuple[float, float, float]
SOURCES = ("generated", "official")  # sources of corrupted images; anything else is a folder
NETWORK = "network"  # instead of pixels: the size that a user's network declares


def compiled(pattern: str | None) -> str | None:
    """Return a regular expression unchanged; raise `ValueError` if it is invalid."""
    try:
        re.compile(pattern or "")
    except re.error as problem:
        raise ValueError(f"is no regular expression ({problem})") from problem
    return pattern


class DatasetSpec(Frozen):
    """The data set, and the number of training images that are held out for validation.

    `classes` keeps only the first classes, by number. Image files may have different sizes if their
    shorter side is scaled to `resize` pixels, or a central square of `crop` pixels is cropped; the
    default of `crop` is `resize`.
    """

    name: str
    root: Annotated[Path, Field(strict=False)] | None = None  # a text
    validation: int = Field(ge=1)
    classes: int | None = Field(default=None, ge=2, exclude_if=lambda number: number is None)
    resize: Side | Literal["network"] | None = Field(default=None, exclude_if=lambda s: s is None)
    crop: Side | None = Field(default=None, exclude_if=lambda side: side is None)
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = Field(
        default=None, exclude_if=lambda name: name is None
    )

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetSpec":
        if self.resize == NETWORK and (self.crop or self.interpolation):
            raise ValueError(
                f'resize = "{NETWORK}" takes the rest from the network too; leave out crop and '
                "interpolation"
            )
        if self.interpolation and not self.resize:
            raise ValueError("interpolation belongs to resize; give both or neither")
        if isinstance(self.resize, int) and self.crop and self.crop > self.resize:
            raise ValueError(
                f"crop = {self.crop} is larger than resize = {self.resize}; a square cannot be cut "
                "from less"
            )
        return self


class ModelSpec(Frozen):
    """The architecture; `options` are arguments of its function, such as `{shortcut = "A"}`.

    `mean` and `std` are per channel on [0, 1]; the default is those of the training images.
    """

    name: str
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    mean: Channels | None = None
    std: Channels | None = None

    @field_validator("std")
    @classmethod
    def _positive(cls, std: Channels | None) -> Channels | None:
        if std is not None and min(std) <= 0:
            raise ValueError(f"must be positive, got {std}")
        return std


class CorruptionSpec(Frozen):
    """The source of corrupted images.

    Attributes:
        source: "generated", "official" for the data set's published corrupted set, or the folder of
            a set in either official layout.
        scale: the image size whose constants are used, for images of a size without constants.
    """

    source: str = Field(default="generated", min_length=1)
    scale: Literal[32, 64, 224] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CorruptionSpec":
        if self.scale is not None and self.source != "generated":
            raise ValueError('scale belongs to source = "generated"; images on disk are made')
        return self


class MechanismSpec(Frozen):
    """The settings of the analyses that may explain robustness.

    Attributes:
        layers: a regular expression, searched for in the names of modules; None for all ReLUs
            and other activations that are never negative.
        columns: the activations for dimensionality: units (spatial means) or flattened maps.
        estimator: of gradients of units by the image: exact, or random probes.
    """

    layers: str | None = Field(default=None, min_length=1)
    columns: Literal["units", "maps"] = "units"
    estimator: Literal["probes", "exact"] = "probes"

    @field_validator("layers")
    @classmethod
    def _compiles(cls, layers: str | None) -> str | None:
        return compiled(layers)


class SmoothingSpec(Frozen):
    """How networks are smoothed, for the suite `smoothing`.

    Attributes:
        sigmas: deviations of the noise, on [0, 1]; each makes a classifier of its own.
        draws: of noise for each image, to count votes; a tenth as many choose the class.
    """

    sigmas: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], Field(min_length=1)] = (
        0.25,
    )
    draws: Annotated[int, Field(ge=10, le=1_000_000)] = 1000


class ProbabilitySpec(Frozen):
    """How exactly the suite `probability` estimates probabilities.

    Attributes:
        error: absolute, of each probability.
        confidence: the probability that an estimate is within `error`.
        method: the bounds that prove that nothing in a ball changes the prediction.
    """

    error: Annotated[float, Field(ge=0.005, le=0.5)] = 0.1
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95
    method: Literal["interval", "linear"] = "linear"


class Recipe(Frozen):
    """How a network is trained: SGD on cross-entropy minus alpha times selectivity.

    Attributes:
        method: the images to train on (`selbench.training.methods`).
        ball: radius in L-inf, in 255ths, that method = "ibp" trains certificates for; None for 8.
        index_batch: the number of images of a batch for the class means of the index; None for all.
            For few images the index is mostly noise.
        layers: the ReLUs of the regulariser: "first 3" or "last 3" in order of calls, or a regular
            expression, searched for in the names of the modules that call them; None for all. The
            papers' controls are the first three and the last three.
        epsilon: in the index's denominator, as a share of the layer's mean activity; None for the
            fixed 1e-7 of `selbench.selectivity.EPSILON`. An addition of selbench.
        ramp_epochs: the epochs in which alpha rises linearly from 0, a control of the papers; None
            for none.
        clip_norm: the largest norm of the loss's gradient; None for no limit. An addition of
            selbench.
        gradients: whether curves have the norms of both losses' gradients, for one or two more
            passes back in each epoch.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = ()
    decay: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: float = Field(default=0, ge=0)
    augment: tuple[Literal["flip", "crop"], ...] = ()
    # Left out of dumps by default, so that the keys of trained networks do not change.
    method: Literal["standard", "augmix", "pgd", "ibp"] = Field(
        default="standard", exclude_if=lambda method: method == "standard"
    )
    ball: float | None = Field(default=None, gt=0, exclude_if=lambda size: size is None)
    index_batch: int | None = Field(default=None, ge=2, exclude_if=lambda size: size is None)
    layers: str | None = Field(default=None, min_length=1, exclude_if=lambda text: text is None)
    epsilon: float | None = Field(default=None, gt=0, exclude_if=lambda share: share is None)
    ramp_epochs: float | None = Field(default=None, gt=0, exclude_if=lambda number: number is None)
    clip_norm: float | None = Field(default=None, gt=0, exclude_if=lambda norm: norm is None)
    gradients: bool = Field(default=False, exclude_if=lambda asked: not asked)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @field_validator("layers")
    @classmethod
    def _compiles(cls, layers: str | None) -> str | None:
        return compiled(layers)

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.ball is not None and self.method != "ibp":
            raise ValueError(f'ball belongs to method = "ibp", not "{self.method}"')
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true needs momentum above 0")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs:g} leaves none of {self.epochs} epochs"
            )
        if self.ramp_epochs and self.ramp_epochs > self.epochs:
            raise ValueError(
                f"ramp_epochs = {self.ramp_epochs:g} is more than the {self.epochs} epochs"
            )
        if self.index_batch and self.batch_size % self.index_batch:
            raise ValueError(
                f"batch_size = {self.batch_size} is no multiple of index_batch = {self.index_batch}"
            )
        if self.schedule == "cosine" and self.milestones:
            raise ValueError('milestones belong to schedule = "step", not "cosine"')
        return self


class Study(Frozen):
    """One experiment: networks trained for every alpha and seed, then evaluated by suites."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=NAME)
    description: str = ""
    alphas: Alphas
    seeds: Seeds
    suites: Suites = ("corruptions",)
    dataset: DatasetSpec
    model: ModelSpec
    recipe: Recipe
    corruptions: CorruptionSpec = CorruptionSpec()
    mechanism: MechanismSpec = MechanismSpec()
    # Left out of manifests while it is the default.
    smoothing: SmoothingSpec = Field(
        default=SmoothingSpec(), exclude_if=lambda spec: spec == SmoothingSpec()
    )
    probability: ProbabilitySpec = Field(
        default=ProbabilitySpec(), exclude_if=lambda spec: spec == ProbabilitySpec()
    )

    @field_validator("alphas")
    @classmethod
    def _finite(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        return check_alphas(alphas)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"each seed once, got {list(seeds)}")
        return seeds


def check_alphas(alphas: tuple[float, ...]) -> tuple[float, ...]:
    """Return `alphas` with 0.0 for -0.0; raise `ValueError` for infinite or repeated ones."""
    for alpha in alphas:
        if not math.isfinite(alpha):
            raise ValueError(f"alpha must be a finite number, got {alpha}")
    if len(set(alphas)) < len(alphas):
        raise ValueError(f"each alpha once, got {list(alphas)}")
    return tuple(alpha + 0.0 for alpha in alphas)


def exactly(alpha: float) -> str:
    """Return `alpha` with enough digits to be unique: "-1", "0.25"."""
    return repr(alpha).removesuffix(".0")


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: "1 network", "2 networks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shipped_studies() -> dict[str, Path]:
    """Return the studies that come with selbench, by name."""
    folder = Path(str(resources.files("selbench") / "studies"))
    return dict(sorted((path.stem, path) for path in folder.glob("*.toml")))


def load_study(name: str) -> Study:
    """Read a study by its shipped name or by the path of a TOML file.

    A relative `dataset.root` in the file is relative to the file. Raises `SelbenchError` for an
    unknown name, a missing file, malformed TOML, an unknown key or a value out of range.
    """
    path = shipped_studies().get(name)
    if path is None:
        path = Path(name).expanduser()
        if path.suffix != ".toml":
            raise unknown(
                "study (a shipped name or the path of a .toml file)", name, shipped_studies()
            )
        if not path.is_file():
            raise SelbenchError(
                f"there is no study file {path}; see `selbench list` for the shipped ones"
            )
    content = read_toml(path)
    return _resolve(_validate(content, path), path.parent.absolute())


def _validate(content: dict[str, Any], path: Path) -> Study:
    try:
        # A file may have any name, a store's folder may not.
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:NAME] or "study"
        return Study.model_validate({"name": name, **content})
    except ValidationError as problem:
        raise SelbenchError(f"{path}: {_first_problem(problem)}") from problem


def _resolve(study: Study, folder: Path) -> Study:
    """Make the paths of a study absolute; they are relative to the folder of its file."""
    dataset, corruptions = study.dataset, study.corruptions
    if dataset.root is not None:
        root = folder / dataset.root.expanduser()
        dataset = dataset.model_copy(update={"root": root})
    if corruptions.source not in SOURCES:
        source = str(folder / Path(corruptions.source).expanduser())
        corruptions = corruptions.model_copy(update={"source": source})
    return study.model_copy(update={"dataset": dataset, "corruptions": corruptions})


def _first_problem(problem: ValidationError) -> str:
    error = first_problem(problem)
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *table, _ = error["loc"]
        model: type[BaseModel] = Study
        for part in table:
            model = model.model_fields[str(part)].annotation  # type: ignore[assignment]  # a Frozen
        return str(
            unknown(
                "key", where, [".".join([*map(str, table), name]) for name in model.model_fields]
            )
        )
    if error["type"] == "missing":
        return f"the key {where} is missing"
    message, got = error["msg"], error["input"]
    shown = f"{[*got] if isinstance(got, tuple) else got!r:.60}"
    return f"{where}: {message}, got {shown}" if where else message


def parse_alphas(words: Sequence[str]) -> tuple[float, ...]:
    """Read the values of --alpha; raise `SelbenchError` unless they are different numbers."""
    try:
        return check_alphas(tuple(float(word) for word in words))
    except ValueError as problem:
        reason = "" if str(problem).startswith("could not convert") else f" ({problem})"
        raise SelbenchError(
            f"--alpha takes finite numbers, each once, such as -1,0,1; got "
            f"{','.join(words)!r:.100}{reason}"
        ) from problem


def parse_seeds(words: Sequence[str]) -> tuple[int, ...]:
    """Read the values of --seed; raise `SelbenchError` unless they are different seeds."""
    seeds = tuple(
        int(word) if word.isdecimal() and len(word) <= len(str(MAX_SEED)) else -1 for word in words
    )
    if min(seeds) < 0 or max(seeds) > MAX_SEED or len(set(seeds)) < len(seeds):
        raise SelbenchError(
            f"--seed takes whole numbers from 0 to {MAX_SEED}, each once, such as 0,1,2; got "
            f"{','.join(words)!r:.100}"
        )
    return seeds
