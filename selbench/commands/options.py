"""The command line's options, and how their words become values."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.console import Console

from selbench._kit.errors import DamagedError, SelbenchError
from selbench._kit.places import place
from selbench._kit.printable import printable
from selbench._kit.progress import SILENT, Progress

if TYPE_CHECKING:
    from selbench.store import StudyStore

INCOMPLETE = 3  # exit code if cells are missing: failed, removed or damaged

StudyName = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A shipped study's name, or the path of a TOML file."),
]
OptionalStudyName = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="A shipped study's name, or the path of a TOML file; without it, digits.",
    ),
]
Place = Annotated[
    str | None,
    typer.Argument(
        help="A study of the store, or the folder of a study or of a store; without it, all."
    ),
]
Store = Annotated[
    Path, typer.Option(parser=place, metavar="PATH", help="The folder of results, or its URL.")
]


def _device(words: str) -> str:
    """Refuse a word that names no device; torch says later which of them there are."""
    for word in words.split(","):
        kind = word.partition(":")[0]
        if kind not in ("auto", "cpu", "cuda"):
            raise SelbenchError(
                f"device {word!r} cannot be used (only cpu and cuda are supported, not {kind}); "
                "try --device cpu"
            )
    return words


Device = Annotated[
    str,
    typer.Option(callback=_device, help='"auto", "cpu", "cuda", "cuda:1"; run: "cuda:0,cuda:1".'),
]
Data = Annotated[Path | None, typer.Option(help="The folder of the images.")]
Alphas = Annotated[
    list[str] | None,
    typer.Option("--alpha", help="Strengths of the regulariser; repeat or use commas."),
]
Seeds = Annotated[
    list[str] | None,
    typer.Option("--seed", help="Seeds of the networks to train; repeat or use commas."),
]
Corruptions = Annotated[
    list[str] | None,
    typer.Option("--corruption", help="Only these corruptions; repeat or use commas."),
]
Attacks = Annotated[
    list[str] | None, typer.Option("--attack", help="Only these attacks; repeat or use commas.")
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Modules whose outputs analyses use, instead of all ReLUs and the like.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="SPEC",
        help="Evaluate this network instead of training: selbench:NAME, torchvision:NAME, "
        "timm:NAME, robustbench:NAME, hf:ORG/NAME, or file.py:FUNCTION and "
        "package.module:FUNCTION, which run your code; may be repeated.",
    ),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(
        "--weights", help="A --model's weights: safetensors, or a torch state dict; one for each."
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Use a --model's published weights.")
]
ThreatModel = Annotated[
    str | None, typer.Option(help="Of robustbench:NAME: Linf, L2 or corruptions.")
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        help="Evaluate these weights of the study's model instead of training; may be repeated.",
    ),
]
Trained = Annotated[
    Path | None,
    typer.Option(
        help="Use the study's networks that `selbench train --output` wrote to this folder."
    ),
]
Mean = Annotated[
    str | None, typer.Option(help="Your network's per-channel mean, as R,G,B on [0, 1].")
]
Std = Annotated[
    str | None, typer.Option(help="Your network's per-channel deviation, as R,G,B on [0, 1].")
]
InputSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side in pixels of your network's inputs; images are scaled."),
]
ClassMap = Annotated[
    Path | None,
    typer.Option(help="JSON or CSV: which outputs of a --model are which classes."),
]
Entry = Annotated[
    str | None,
    typer.Option(help="Which weights of a file to use if it holds several: model_ema."),
]
DatasetName = Annotated[
    str | None,
    typer.Option("--dataset", help="Evaluate a --model on this data set, without a study."),
]
EngineName = Annotated[
    str, typer.Option("--engine", help="local: this machine; ray: a Ray cluster (the extra `ray`).")
]
Pixels = Annotated[
    str | None,
    typer.Option(metavar="uint8", help="uint8: search only images that an 8-bit file can hold."),
]
Eot = Annotated[
    int | None,
    typer.Option(
        "--eot", metavar="DRAWS", help="Attack the mean of this many draws of a random network."
    ),
]
Adversarials = Annotated[
    list[str] | None,
    typer.Option(
        "--adversarials",
        metavar="FILE",
        help="Count adversarials made by others: safetensors, .npy, .npz, a folder of PNG; may be "
        "repeated.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster: auto or HOST:PORT; else RAY_ADDRESS, or this machine."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        help="Seconds that a network may compute for a cell; beyond them the cell fails.",
    ),
]
GpusPerTask = Annotated[
    float | None, typer.Option(help="How much of a GPU a Ray task gets, such as 0.25.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the work to do and its estimated time; evaluate nothing."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace even a file that selbench did not write.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the results.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Report what is found, what is reused, and how long it takes."
    ),
]


LogitsKey = Annotated[
    str | None,
    typer.Option(
        "--logits",
        metavar="KEY",
        help="Which output of your network holds the logits, if it returns several: a key, or a "
        "number from 0.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="Name of your network in tables; one for each, in order."),
]
Source = Annotated[
    str | None,
    typer.Option(help='Corrupted images: "generated", "official", or the folder of a set.'),
]
Scale = Annotated[
    int | None, typer.Option(help="Corrupt with the constants for images of 32, 64 or 224 pixels.")
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|network",
        help="Scale the shorter side of image files, then crop a square from the centre; "
        "network: the size that a --model of timm, torchvision or robustbench declares.",
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="Side of that square."),
]
Interpolation = Annotated[
    str | None, typer.Option(help="Of --resize: bilinear, bicubic or nearest.")
]


@dataclass(frozen=True)
class BroughtOptions:
    """Options on brought networks and their images, the same in every command."""

    model: Models = None
    weights: Weights = None
    pretrained: Pretrained = False
    threat_model: ThreatModel = None
    checkpoint: Checkpoints = None
    entry: Entry = None
    name: Names = None
    logits: LogitsKey = None
    mean: Mean = None
    std: Std = None
    input_size: InputSize = None
    class_map: ClassMap = None
    dataset: DatasetName = None
    data: Data = None
    resize: Resize = None
    crop: Crop = None
    interpolation: Interpolation = None
    source: Source = None
    scale: Scale = None

    @property
    def framing(self) -> dict[str, Any]:
        """The options on image size, by the keys of a study."""
        return framing(self.resize, self.crop, self.interpolation)

    @property
    def brings(self) -> bool:
        """Whether the user brings networks."""
        return bool(self.model or self.checkpoint)

    @property
    def described(self) -> dict[str, Any]:
        """The options that describe brought networks."""
        names = ("weights", "pretrained", "threat_model", "mean", "std", "input_size", "class_map")
        return {each: getattr(self, each) for each in (*names, "entry", "name", "logits")}


@dataclass(frozen=True)
class NetworkOptions(BroughtOptions):
    """Options on a command's networks: brought ones, or a study's."""

    trained: Trained = None
    alpha: Alphas = None
    seed: Seeds = None


BROUGHT = BroughtOptions()  # no option given
NETWORKS = NetworkOptions()


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take a group of options as one parameter, a dataclass."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[Parameter] = []
    for name, each in signature(command).parameters.items():
        if name not in groups:
            parameters.append(each.replace(annotation=hints[name]))
            continue
        group_hints = get_type_hints(groups[name], include_extras=True)
        parameters += [
            Parameter(f.name, each.kind, default=f.default, annotation=group_hints[f.name])
            for f in fields(groups[name])
        ]

    @wraps(command)
    def taking(**values: Any) -> None:
        grouped_values = {
            name: kind(**{f.name: values.pop(f.name) for f in fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **grouped_values)

    taking.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(taking)["__signature__"] = Signature(parameters)
    return taking


def shown(quiet: bool, verbose: bool = False) -> Progress:
    """Return bars on a terminal, lines elsewhere, or silence if `quiet`; `verbose` adds details.

    Raises:
        SelbenchError: if both are given.
    """
    from selbench._kit.console import showing

    if quiet and verbose:
        raise SelbenchError("--quiet says less and --verbose more; leave out one of them")
    if quiet:
        return SILENT
    return showing(Console(stderr=True), verbose)


def say(sentence: str, err: bool = False) -> None:
    """Print a sentence on one line, with control characters of names escaped."""
    typer.echo(printable(sentence), err=err)


def expanded(path: Path | None) -> Path | None:
    """Replace `~` with the home folder."""
    return None if path is None else path.expanduser()


def split_words(words: list[str] | None) -> list[str] | None:
    """Split `--alpha -1,0 --alpha 1` into words."""
    return None if words is None else [part.strip() for word in words for part in word.split(",")]


@contextmanager
def opened(places: Sequence[str], root: Path) -> Iterator[list["StudyStore"]]:
    """Yield the studies at `places` (see `open_places`), and report what is missing.

    Incomplete studies are named. Damaged files are left out and named at the end, with exit code 3.
    So are studies with a damaged manifest, unless no other study is left.
    """
    from selbench.store import open_places
    from selbench.store.missing import unfinished

    studies, left_out = _readable(open_places(places, root))
    for sentence in unfinished(studies):
        say(sentence, err=True)
    try:
        yield studies
    finally:
        left_out += [each for study in studies for each in study.left_out.values()]
        for problem in left_out:
            say(f"left out: {problem}", err=True)
    if left_out:
        raise typer.Exit(INCOMPLETE)


def _readable(
    studies: Sequence["StudyStore"],
) -> tuple[list["StudyStore"], list[DamagedError]]:
    """Return the studies with undamaged manifests, and the problems of the others."""
    kept, damaged = [], []
    for study in studies:
        study.tolerant = True
        try:
            study.manifest()
            kept.append(study)
        except DamagedError as problem:
            damaged.append(problem)
    if damaged and not kept:
        raise damaged[0]
    return kept, damaged


def framing(
    resize: str | None, crop: int | None, interpolation: str | None
) -> dict[str, int | str]:
    """Return the options on image size, by the keys of a study."""
    from selbench.study import NETWORK

    side: int | str | None = resize
    if resize is not None and resize != NETWORK:
        if not (resize.isascii() and resize.isdecimal()) or len(resize) > len("4096"):
            raise SelbenchError(
                f"--resize takes a number of pixels such as 256, or {NETWORK}, got {resize!r:.60}"
            )
        side = int(resize)
    given = {"resize": side, "crop": crop, "interpolation": interpolation}
    return {name: value for name, value in given.items() if value is not None}


def parse_channels(option: str, text: str | None) -> tuple[float, float, float] | None:
    """Parse R,G,B; `option` is named in the error."""
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as problem:
        raise SelbenchError(
            f"{option} takes three numbers such as 0.485,0.456,0.406, got {text!r}"
        ) from problem
    return red, green, blue


def refuse_idle(options: Sequence[str]) -> None:
    """Refuse options without effect on --self-check."""
    if options:
        raise SelbenchError(
            "--self-check uses all severities, seed 0 and, without --against, the constants of "
            f"32 pixels, and writes nothing; leave out {' and '.join(options)}"
        )


def first_line(function: Callable[..., object]) -> str:
    """Return the first line of a docstring."""
    return next(iter((function.__doc__ or "").strip().splitlines()), "")
