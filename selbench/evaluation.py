"""Evaluate a network from Python, with the numbers and the store of the command line."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np
import pandas as pd
from rich.console import Console
from torch import nn

from selbench._engine import Engine, Local, opened
from selbench._kit.console import showing
from selbench._kit.device import choose_device, usual_settings
from selbench._kit.errors import SelbenchError, naming_arguments, unknown
from selbench._kit.places import place
from selbench._kit.progress import SILENT, Progress
from selbench.datasets import Dataset, dataset_of, load_dataset
from selbench.networks.adhoc import adhoc_study, sized, untrained_study
from selbench.networks.described import NetworkSpec
from selbench.networks.framing import framed
from selbench.networks.loading import network_of
from selbench.networks.modules import evaluation_copy, module_of, outputs_of
from selbench.networks.network import Network
from selbench.request import Request, chosen_pixels
from selbench.session import RunResult, Session, looking
from selbench.store import StudyStore
from selbench.store.findings import from_records, to_records, whole_name
from selbench.store.missing import lost, missing
from selbench.study import Channels, Study, load_study, shipped_studies
from selbench.tables import current_rows
from selbench.tables.ranking import arranged
from selbench.tables.table import Leaderboard

FILES = (".pt", ".pth", ".th", ".safetensors", ".ckpt", ".bin", ".tar", ".pt2", ".onnx", ".npz")


class NetworkFacts(TypedDict, total=False):
    """What may be said of a network; see `NetworkSpec`, whose attributes these are."""

    weights: str | Path
    pretrained: bool
    threat_model: str
    entry: str
    mean: Channels
    std: Channels
    input_size: int
    class_map: str | Path
    logits: str


CALLER = 4  # frames from a warning to who called `evaluate`, its decorators among them
MOST_SAVED = 1000  # images
OF_SPECS = ("weights", "pretrained", "threat_model", "entry")  # a module has its weights


class Measurements(pd.DataFrame):
    """What was measured of a network, one row for each number; a data frame as others are."""

    _metadata: ClassVar[list[str]] = ["_board"]  # goes along with what pandas makes of it
    _board: Leaderboard | None = None

    @property
    def _constructor(self) -> type["Measurements"]:
        return Measurements

    def leaderboard(
        self, columns: str | Sequence[str] = (), sort: str | None = None
    ) -> Leaderboard:
        """Return the table that `selbench run` prints of all that was evaluated.

        Args:
            columns: only these, such as "mca" or ["clean", "fog"]; none for all.
            sort: the column whose best rows come first.

        Raises:
            SelbenchError: for unknown columns, and where every condition failed.
        """
        if self._board is None:
            raise SelbenchError("there is no leaderboard: the network failed under every condition")
        with naming_arguments():
            return arranged(self._board, _words("columns", columns), sort)


@naming_arguments()
@usual_settings()
def evaluate(
    model: nn.Module | str | NetworkSpec,
    dataset: Any = "digits",
    suites: str | Sequence[str] = ("corruptions",),
    *,
    name: str | None = None,
    store: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
    corruptions: str | Sequence[str] = (),
    attacks: str | Sequence[str] = (),
    full: bool = False,
    pixels: str | None = None,
    adversarials: str | Path | Sequence[str | Path] = (),
    layers: str | None = None,
    columns: str | None = None,
    estimator: str | None = None,
    save_adversarials: int = 0,
    data: str | Path | None = None,
    resize: int | str | None = None,
    crop: int | None = None,
    interpolation: str | None = None,
    retry_failed: bool = False,
    time_limit: float | None = None,
    source: str | Path | None = None,
    scale: int | None = None,
    engine: str = "local",
    address: str | None = None,
    gpus_per_task: float | None = None,
    progress: bool | None = None,
    verbose: bool = False,
    **said: Unpack[NetworkFacts],
) -> Measurements:
    """Evaluate a network under suites, and return its measurements, one row each.

    The network itself is not changed: a copy in evaluation mode is evaluated.

    Args:
        model: images in [0, 1], (batch, 3, height, width), in; logits (batch, classes) out. Or
            what `--model` names, such as "torchvision:resnet18", or that with more, such as
            `NetworkSpec(spec="selbench:resnet56", weights=Path("mine.th"))`.
        dataset: a registered name; one that is loaded; or images with labels: a pair of tensors or
            arrays, a data set or loader of torch. They are converted to uint8 where it is certain.
        suites: such as "corruptions" or ["clean", "attacks"].
        name: of the network in tables; without it its class's.
        store: folder of results, or its URL, in which what is there already is not evaluated
            again; None keeps nothing.
        limit: number of test images, at least 1; None for all.
        device: "auto", "cpu", "cuda" or "cuda:1".
        corruptions: to take of those in the suites; none for all.
        attacks: to make of those in the suites, such as "pgd-linf"; none for all.
        full: run AutoAttack at every epsilon, and leave nothing out that another makes needless.
        pixels: "uint8": attack with images that a file can hold; None for any numbers in [0, 1].
        adversarials: files or folders that others made, which are checked and counted, too.
        layers: a regular expression, searched for in the names of modules, whose outputs analyses
            look at; None for all activations that are never negative.
        columns: of dimensionality: "units", which None is, or flattened "maps".
        estimator: of input-unit gradients: "probes", which None is, or "exact".
        save_adversarials: of so many images to keep in `store` what attacks make, 1000 at most.
        data: where the images of a data set given by name lie.
        resize: pixels that the shorter side of its image files is scaled to, before a square is cut
            from the centre; "network": as a `model` that is named declares.
        crop: pixels of a side of that square, unless it is that of `resize`.
        interpolation: of `resize`: "bilinear", which None is, "bicubic" or "nearest".
        retry_failed: try again what failed in an earlier call, of what `store` keeps.
        time_limit: seconds that the network may compute for a cell, which else fails.
        source: of corrupted images: "generated", "official", or the folder of a set.
        scale: 32, 64 or 224: corrupt with the constants for images of so many pixels.
        engine: "local", or "ray" for a Ray cluster.
        address: of that cluster: "auto" or "HOST:PORT".
        gpus_per_task: how much of a GPU one of its tasks gets, such as 0.25.
        progress: whether to show a bar; None for one on terminals and in notebooks.
        verbose: say what is found, what is kept, and how long it takes.
        said: of the network, as options of `selbench run` say it: `weights`, `pretrained`,
            `threat_model`, `entry` (of one that is named), `mean`, `std`, `input_size`,
            `class_map`, and `logits`: which output to take of one that returns several.

    Returns:
        the columns of `measurements.csv` that are not empty; accuracies lie in [0, 1]. Its
        `.leaderboard()` is the table that `selbench run` prints. Of a network whose outputs are
        random, rows of several draws. `.attrs["findings"]` lists what the probe found of the
        network, each a dict of code, sentence, and what it spoils: robust accuracies that a finding
        makes meaningless are in no row.

    Warns:
        RuntimeWarning: where the network failed under some conditions, which lack in the rows.

    Raises:
        SelbenchError: for an unknown name, and a network that does not fit the data set.
    """
    module = None if isinstance(model, str | NetworkSpec) else module_of(model)
    size = {"resize": resize, "crop": crop, "interpolation": interpolation}
    framing = {name: value for name, value in size.items() if value is not None}
    spec = _spec(model if module is None else NetworkSpec(), said, named=module is None)
    specs = [] if module is not None else [spec]
    looks = {"layers": layers, "columns": columns, "estimator": estimator}
    shown = _progress(progress, verbose)
    session = _session(_data(dataset, module), device, data, looks, framing, specs, shown)
    if source is not None or scale is not None:
        session = session.sourced(None if source is None else str(source), scale)
    request = _request(suites, limit, corruptions, attacks, retry_failed, time_limit)
    paths = [adversarials] if isinstance(adversarials, str | Path) else adversarials
    request = request.model_copy(
        update={
            "full": bool(full),
            "pixels": chosen_pixels(pixels, "pixels"),
            "adversarials": tuple(map(str, paths)),
            "save": _saved(save_adversarials),
        }
    )
    network = _network(
        replace(spec, time_limit=time_limit or spec.time_limit), module, name, session
    )
    with _folder(store) as root, _engine(engine, address, gpus_per_task) as chosen:
        session = replace(session, engine=chosen)
        (network,) = session.named(root, [network])
        ran = session.run(root, request, [network], ["selbench.evaluate"])
        if ran.failures:
            again = "selbench.evaluate(..., store=..., retry_failed=True)"
            told = missing(ran.failures, ran.earlier, root / session.study.name, again)
            warnings.warn(told, RuntimeWarning, stacklevel=CALLER)
        if ran.lost:
            told = lost(ran.lost, root / session.study.name, "selbench.evaluate(..., store=...)")
            warnings.warn(told, RuntimeWarning, stacklevel=CALLER)
        return _measured(session, network, root, request, ran)


def _session(
    dataset: str | Dataset,
    device: str,
    data: str | Path | None,
    looks: Mapping[str, str | None],
    framing: Mapping[str, Any],
    specs: Sequence[NetworkSpec],
    progress: Progress,
) -> Session:
    if isinstance(dataset, Dataset):
        if data is not None:
            raise SelbenchError("data says where a named data set lies; leave it out")
        if framing:
            raise SelbenchError(
                f"{' and '.join(framing)} are for the image files of a named data set; leave them "
                "out, and scale the images before"
            )
        study = _study_of(dataset)
    else:
        root = None if data is None else Path(data).expanduser().absolute()
        study = adhoc_study(dataset, root)
        spec = study.dataset.model_copy(update={"root": root or study.dataset.root})
        spec = framed(spec, framing, specs)
        study, dataset = study.model_copy(update={"dataset": spec}), load_dataset(spec, progress)
    mechanism = looking(study.mechanism, looks)
    study = sized(study, dataset).model_copy(update={"mechanism": mechanism})
    return Session(study, dataset, choose_device(str(device)), progress)


def _study_of(dataset: Dataset) -> Study:
    """Return the study that the data set has by name, unless it is only called like that one's."""
    if dataset.name in shipped_studies():
        study = load_study(dataset.name)
        with suppress(SelbenchError):  # it is not there
            known = load_dataset(study.dataset)
            pairs = ((known.train, dataset.train), (known.test, dataset.test))
            if all(one.checksum == other.checksum for one, other in pairs):
                return study
    return untrained_study(dataset.name, dataset.name)


def _network(
    spec: NetworkSpec, module: nn.Module | None, name: str | None, session: Session
) -> Network:
    """Return the network, a copy of a module, or what the words of `--model` name."""
    if module is not None:
        called = name or type(module).__name__
        return network_of(evaluation_copy(module, called), called, session.dataset, spec)
    network = session.bring(spec)
    return replace(network, name=name) if name else network


def _spec(model: object, said: Mapping[str, Any], named: bool) -> NetworkSpec:
    """Return what is said of a network, beside what `model` says if it is one."""
    if wrong := next((each for each in said if each not in NetworkFacts.__annotations__), None):
        raise unknown("argument of evaluate", wrong, NetworkFacts.__annotations__)
    if not named and (idle := [each for each in OF_SPECS if said.get(each)]):
        raise SelbenchError(
            f"{idle[0]} is for a network that is named, such as torchvision:resnet18; leave it "
            "out, and load weights into the module"
        )
    said = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
    paths = {
        each: Path(said[each]).expanduser() for each in ("weights", "class_map") if said.get(each)
    }
    if isinstance(model, str) and Path(model).suffix in FILES:
        raise SelbenchError(
            f"{model} is a file, not a network; say of which it is: selbench.networks.NetworkSpec("
            f'spec="torchvision:resnet18", weights=Path({model!r}))'
        )
    spec = model if isinstance(model, NetworkSpec) else NetworkSpec(spec=str(model))
    return replace(spec, **{**said, **paths})


def _request(
    suites: str | Sequence[str],
    limit: int | None,
    corruptions: str | Sequence[str],
    attacks: str | Sequence[str],
    retry: bool,
    time_limit: float | None,
) -> Request:
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1
    ):
        raise SelbenchError(f"limit is a number of test images, at least 1, got {limit!r}")
    if time_limit is not None and not 0 < time_limit < inf:
        raise SelbenchError(f"time_limit is a number of seconds above 0, got {time_limit}")
    return Request(
        suites=_words("suites", suites),
        limit=None if limit is None else int(limit),
        corruptions=_words("corruptions", corruptions),
        attacks=_words("attacks", attacks),
        retry=retry,
        time_limit=time_limit,
    )


def _saved(count: object) -> int:
    if type(count) is not int or not 0 <= count <= MOST_SAVED:
        raise SelbenchError(
            f"save_adversarials is a number of images from 0 to {MOST_SAVED}, got {count!r:.40}"
        )
    return count


def _words(what: str, given: object) -> tuple[str, ...]:
    """Return names, of which a single one may be given as it is."""
    words = (given,) if isinstance(given, str) else given
    if not isinstance(words, Sequence | Set) or not all(isinstance(word, str) for word in words):
        raise SelbenchError(f"{what} is a name, or a list of names, got {given!r:.80}")
    return tuple(words)


def _data(given: object, module: nn.Module | None) -> str | Dataset:
    """Return the data set, one that has no name called after its content."""
    if isinstance(given, str):
        return given
    if isinstance(given, os.PathLike):
        raise SelbenchError(
            f'dataset is a name or images with labels, got the path {given}; say "folder", and '
            "where it lies with data="
        )
    found = dataset_of(given, partial(outputs_of, module))
    if isinstance(given, Dataset):
        return found
    return replace(found, name=f"data-{found.test.checksum[:8]}")


@contextmanager
def _folder(store: str | Path | None) -> Iterator[Path]:
    if store is not None:
        yield place(store)
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def _measured(
    session: Session, network: Network, root: Path, request: Request, ran: RunResult
) -> Measurements:
    """Return what the request measured of the network, and what the probe found of it."""
    store = StudyStore(root, session.study.name)
    rows, manifest = current_rows(store, session.fitted(request).limit), store.manifest()
    findings = from_records(manifest["findings"][network.weights])
    pieces = {(work.suite, work.name) for work in session.pieces(request)}
    own = rows[rows["subject"].map(whole_name) == network.name]
    asked = [pair in pieces for pair in zip(own["suite"], own["condition"], strict=True)]
    found = own[asked].reset_index(drop=True)
    filled = [name for name in found if not all(pd.isna(v) or v == "" for v in found[name])]
    made = Measurements(found[filled])
    made.attrs["findings"] = to_records(findings)
    made._board = session.board(root, request, ran, own["subject"].unique())
    return made


def _engine(
    name: str, address: str | None, gpus_per_task: float | None
) -> AbstractContextManager[Engine]:
    """Return what the command opens, but no engine that may end the program."""
    if (name, address, gpus_per_task) == ("local", None, None):
        return nullcontext(Local())
    return opened(name, address, gpus_per_task)


def _progress(progress: bool | None, verbose: bool) -> Progress:
    """Return bars where somebody looks at them, or as `progress` says."""
    console = Console(stderr=True)
    shown = console.is_terminal or console.is_jupyter if progress is None else progress
    return showing(console, verbose) if shown or verbose else SILENT
