"""Evaluate a network from Python, with the same numbers and stores as the command line."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
from rich.console import Console
from torch import nn

from selbench._engine import Engine, Local, opened
from selbench._engine.ran import RunResult
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
from selbench.request import Request, chosen_draws, chosen_pixels, words_of
from selbench.session import Session
from selbench.settings import settled
from selbench.store import HeldStore, StudyStore
from selbench.store.findings import from_records, to_records, whole_name
from selbench.store.missing import lost, missing
from selbench.study import Channels, Study, load_study, shipped_studies
from selbench.suites.corrupted import CORRUPTED
from selbench.tables import current_rows, leaderboard
from selbench.tables.later import Later, Measurements
from selbench.tables.over_images import keys_of

FILES = (".pt", ".pth", ".th", ".safetensors", ".ckpt", ".bin", ".tar", ".pt2", ".onnx", ".npz")


class NetworkFacts(TypedDict, total=False):
    """The options that describe a network: attributes of `NetworkSpec`."""

    weights: str | Path
    pretrained: bool
    threat_model: str
    entry: str
    mean: Channels
    std: Channels
    input_size: int
    class_map: str | Path
    logits: str


CALLER = 4  # frames from a warning to the caller of `evaluate`, with its decorators
MOST_SAVED = 1000  # images
OF_SPECS = ("weights", "pretrained", "threat_model", "entry")  # a module already has weights


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
    eot: int | None = None,
    adversarials: str | Path | Sequence[str | Path] = (),
    layers: str | None = None,
    columns: str | None = None,
    estimator: str | None = None,
    sigma: float | Sequence[float] | None = None,
    draws: int | None = None,
    error: float | None = None,
    confidence: float | None = None,
    method: str | None = None,
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
    **facts: Unpack[NetworkFacts],
) -> Measurements:
    """Evaluate a network under suites, and return its measurements, one row each.

    The network is not changed: a copy in evaluation mode is evaluated.

    Args:
        model: maps images in [0, 1], (batch, 3, height, width), to logits (batch, classes). Or a
            name of `--model`, such as "torchvision:resnet18", or a description, such as
            `NetworkSpec(spec="selbench:resnet56", weights=Path("mine.th"))`.
        dataset: a registered name; a loaded data set; or images with labels: a pair of tensors or
            arrays, a data set or loader of torch. Images are converted to uint8 if unambiguous.
        suites: such as "corruptions" or ["clean", "attacks"].
        name: the network's name in tables; by default that of its class.
        store: a folder of results, or its URL, whose cells are not evaluated again; None stores
            nothing.
        limit: number of test images, at least 1; None for all.
        device: "auto", "cpu", "cuda" or "cuda:1".
        corruptions: those to select from the suites; () for all.
        attacks: those to select from the suites, such as "pgd-linf"; () for all.
        full: run AutoAttack at every epsilon, also where the result is already certain.
        pixels: "uint8" to attack with images of 8-bit pixels; None for any numbers in [0, 1].
        eot: number of draws of a random network whose mean is attacked, such as 20.
        adversarials: files or folders of adversarials from elsewhere, which are checked and
            counted.
        layers: a regular expression, searched for in the names of modules, whose outputs are
            analysed; None for all activations that are never negative.
        columns: of dimensionality: "units" (the default), or flattened "maps".
        estimator: of gradients of units: "probes" (the default) or "exact".
        sigma: one or several deviations of the noise of smoothing, for pixels in [0, 1].
        draws: of this noise, to count votes of an image.
        error: absolute, of the probabilities of the suite probability.
        confidence: that each is within this error.
        method: its bounds: "linear" (the default) or "interval".
        save_adversarials: the number of images whose adversarials `store` keeps, at most 1000.
        data: the folder of a named data set's images.
        resize: pixels of the shorter side of its image files after scaling, before a central square
            is cropped; "network" for the size that a named `model` declares.
        crop: pixels of a side of this square; by default `resize`.
        interpolation: of `resize`: "bilinear" (the default), "bicubic" or "nearest".
        retry_failed: evaluate cells again that failed in an earlier call and are in `store`.
        time_limit: seconds that the network may compute for a cell; longer cells fail.
        source: of corrupted images: "generated", "official", or the folder of a set.
        scale: 32, 64 or 224: corrupt with the constants for images of this size.
        engine: "local", or "ray" for a Ray cluster.
        address: of this cluster: "auto" or "HOST:PORT".
        gpus_per_task: the share of a GPU for each of its tasks, such as 0.25.
        progress: whether to show a bar; None for a bar on terminals and in notebooks.
        verbose: whether to print facts on the network and the run, and how long it takes.
        facts: the network's description by options of `selbench run`: `weights`, `pretrained`,
            `threat_model`, `entry` (for a named network), `mean`, `std`, `input_size`, `class_map`,
            and `logits`: which of several outputs are the logits.

    Returns:
        the columns of `measurements.csv` that are not empty; accuracies are in [0, 1]. Its
        `.leaderboard()` is the table that `selbench run` prints. For a network with random outputs,
        rows of several draws. `.attrs["findings"]` lists the findings of the probe, each a dict of
        code, sentence, and the numbers that it makes meaningless, which have no rows.

    Warns:
        RuntimeWarning: if the network failed under some conditions, which have no rows.

    Raises:
        SelbenchError: for an unknown name, and a network that does not fit the data set.
    """
    module = None if isinstance(model, str | NetworkSpec) else module_of(model)
    size = {"resize": resize, "crop": crop, "interpolation": interpolation}
    framing = {name: value for name, value in size.items() if value is not None}
    spec = _spec(model if module is None else NetworkSpec(), facts, named=module is None)
    specs = [] if module is not None else [spec]
    sigmas = (sigma,) if isinstance(sigma, int | float) else sigma
    mechanism = {"layers": layers, "columns": columns, "estimator": estimator}
    random = {"draws": draws, "error": error, "confidence": confidence, "method": method}
    settings: dict[str, object] = {"sigma": sigmas, **mechanism, **random}
    shown = _progress(progress, verbose)
    session = _session(_data(dataset, module), device, data, framing, specs, shown)
    study = settled(session.study, settings, words_of("suites", suites))
    session = replace(session, study=study)
    if source is not None or scale is not None:
        session = session.sourced(None if source is None else str(source), scale)
    request = _request(suites, limit, corruptions, attacks, retry_failed, time_limit)
    paths = [adversarials] if isinstance(adversarials, str | Path) else adversarials
    request = request.model_copy(
        update={
            "full": bool(full),
            "pixels": chosen_pixels(pixels, "pixels"),
            "eot": chosen_draws(eot, pixels, "eot", "pixels"),
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
            message = missing(ran.failures, ran.earlier, root / session.study.name, again)
            warnings.warn(message, RuntimeWarning, stacklevel=CALLER)
        if ran.lost:
            message = lost(ran.lost, root / session.study.name, "selbench.evaluate(..., store=...)")
            warnings.warn(message, RuntimeWarning, stacklevel=CALLER)
        return _measured(session, network, root, request, ran)


def _session(
    dataset: str | Dataset,
    device: str,
    data: str | Path | None,
    framing: Mapping[str, Any],
    specs: Sequence[NetworkSpec],
    progress: Progress,
) -> Session:
    if isinstance(dataset, Dataset):
        if data is not None:
            raise SelbenchError("data is the folder of a named data set; leave it out")
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
    return Session(sized(study, dataset), dataset, choose_device(str(device)), progress)


def _study_of(dataset: Dataset) -> Study:
    """Return the study named like the data set, unless it has another data set."""
    if dataset.name in shipped_studies():
        study = load_study(dataset.name)
        with suppress(SelbenchError):  # it is missing
            known = load_dataset(study.dataset)
            pairs = ((known.train, dataset.train), (known.test, dataset.test))
            if all(one.checksum == other.checksum for one, other in pairs):
                return study
    return untrained_study(dataset.name, dataset.name)


def _network(
    spec: NetworkSpec, module: nn.Module | None, name: str | None, session: Session
) -> Network:
    """Return the network: a copy of a module, or the network that `--model` would name."""
    if module is not None:
        called = name or type(module).__name__
        return network_of(evaluation_copy(module, called), called, session.dataset, spec)
    network = session.bring(spec)
    return replace(network, name=name) if name else network


def _spec(model: object, facts: Mapping[str, Any], named: bool) -> NetworkSpec:
    """Return the description of a network from the options, added to that in `model`."""
    if wrong := next((each for each in facts if each not in NetworkFacts.__annotations__), None):
        raise unknown("argument of evaluate", wrong, NetworkFacts.__annotations__)
    if not named and (idle := [each for each in OF_SPECS if facts.get(each)]):
        raise SelbenchError(
            f"{idle[0]} is for a named network, such as torchvision:resnet18; leave it "
            "out, and load weights into the module"
        )
    facts = {name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()}
    paths = {
        each: Path(facts[each]).expanduser() for each in ("weights", "class_map") if facts.get(each)
    }
    if isinstance(model, str) and Path(model).suffix in FILES:
        raise SelbenchError(
            f"{model} is a file, not a network; name its network: selbench.networks.NetworkSpec("
            f'spec="torchvision:resnet18", weights=Path({model!r}))'
        )
    spec = model if isinstance(model, NetworkSpec) else NetworkSpec(spec=str(model))
    return replace(spec, **{**facts, **paths})


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
        suites=words_of("suites", suites),
        limit=None if limit is None else int(limit),
        corruptions=words_of("corruptions", corruptions),
        attacks=words_of("attacks", attacks),
        retry=retry,
        time_limit=time_limit,
    )


def _saved(count: object) -> int:
    if type(count) is not int or not 0 <= count <= MOST_SAVED:
        raise SelbenchError(
            f"save_adversarials is a number of images from 0 to {MOST_SAVED}, got {count!r:.40}"
        )
    return count


def _data(given: object, module: nn.Module | None) -> str | Dataset:
    """Return the data set; without a name, it is named after its content."""
    if isinstance(given, str):
        return given
    if isinstance(given, os.PathLike):
        raise SelbenchError(
            f'dataset is a name or images with labels, got the path {given}; use "folder", and '
            "give the path as data="
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
    """Return the measurements that were requested, and the findings of the probe."""
    store = HeldStore(StudyStore(root, session.study.name))
    rows, manifest = current_rows(store, session.fitted(request).limit), store.manifest()
    findings = from_records(manifest["findings"][network.weights])
    pieces = {(work.suite, work.name) for work in session.pieces(request)}
    rows = rows[rows["subject"].map(whole_name) == network.name]
    asked = [pair in pieces for pair in zip(rows["suite"], rows["condition"], strict=True)]
    found = rows[asked].reset_index(drop=True)
    filled = [name for name in found if not all(pd.isna(v) or v == "" for v in found[name])]
    made = Measurements(found[filled])
    made.attrs["findings"] = to_records(findings)
    made._later = _leaderboard(session, store, rows, request, ran)
    return made


def _leaderboard(
    session: Session, store: HeldStore, rows: pd.DataFrame, request: Request, ran: RunResult
) -> Later:
    """Return the leaderboard of a network with its rows; derive it now if this may fail."""
    accuracy = rows[rows["metric"] == "accuracy"]
    store.keep(set(rows["subject"]), {key for key in keys_of(store, accuracy) if key is not None})
    shown = session.shown(request)
    tested = accuracy.loc[accuracy["suite"].isin(CORRUPTED), "condition"]
    if rows.empty or ran.failures or ran.lost or not {*tested}.issuperset(shown[-1]):
        later = Later(partial(session.board, store, request, ran))
        later.board()
        return later
    return Later(partial(leaderboard, store, *shown))


def _engine(
    name: str, address: str | None, gpus_per_task: float | None
) -> AbstractContextManager[Engine]:
    """Return the engine of the command line, but never one that may end the program."""
    if (name, address, gpus_per_task) == ("local", None, None):
        return nullcontext(Local())
    return opened(name, address, gpus_per_task)


def _progress(progress: bool | None, verbose: bool) -> Progress:
    """Return progress bars, by default on terminals and in notebooks."""
    console = Console(stderr=True)
    shown = console.is_terminal or console.is_jupyter if progress is None else progress
    return showing(console, verbose) if shown or verbose else SILENT
