"""How commands name networks and their data, and what they report about them."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from selbench._kit.errors import SelbenchError
from selbench._kit.printable import printable
from selbench.commands.options import NetworkOptions, expanded, parse_channels, shown, split_words
from selbench.commands.remembered import check_models

if TYPE_CHECKING:
    from selbench._engine import Engine
    from selbench.networks.described import NetworkSpec
    from selbench.networks.network import Network
    from selbench.session import Session
    from selbench.study import Study


def chosen_study(name: str | None, options: NetworkOptions) -> "Study":
    """Return the study: the named one, one for a data set, or the digits study.

    It is read without importing torch, so that typing errors are reported at once.
    """
    from selbench.study import load_study

    if options.dataset is None:
        return load_study(name or "digits")
    if name is not None:
        raise SelbenchError(
            f"the study {name} has a data set, and --dataset names another; leave out one of them"
        )
    if not options.brings:
        raise SelbenchError(
            "--dataset names only images; bring a network with --model, or name a "
            "study, such as `selbench run digits`"
        )
    from selbench.networks.adhoc import adhoc_study

    return adhoc_study(options.dataset, expanded(options.data))


def networks_named(options: NetworkOptions) -> "list[NetworkSpec]":
    """Return the networks that the user brings, in command-line order."""
    from selbench.networks.described import NetworkSpec, pair
    from selbench.study import count_of

    if options.trained and options.brings:
        raise SelbenchError(
            "--trained uses a study's own networks; leave out --model and --checkpoint"
        )
    if (options.alpha or options.seed) and options.brings:
        option = "--model" if options.model else "--checkpoint"
        raise SelbenchError(f"--alpha and --seed are for training, {option} is not; leave out one")
    _refuse_idle(options.described, bool(options.model), bool(options.checkpoint))
    mean, std = parse_channels("--mean", options.mean), parse_channels("--std", options.std)
    size, entry, logits = options.input_size, options.entry, options.logits
    checkpoints = options.checkpoint or []
    specs = [
        NetworkSpec(path, mean, std, input_size=size, entry=entry, logits=logits)
        for path in checkpoints
    ]
    template = NetworkSpec(
        mean=mean,
        std=std,
        pretrained=options.pretrained,
        threat_model=options.threat_model,
        input_size=size,
        class_map=expanded(options.class_map),
        entry=entry,
        logits=logits,
    )
    if options.model:
        check_models(options.model)
        specs += pair(options.model, options.weights or [], template)
    if options.name is not None and len(options.name) != len(specs):
        raise SelbenchError(
            f"there are {len(options.name)} --name for {count_of(len(specs), 'network')}; give one "
            "for each"
        )
    return specs


def _refuse_idle(common: dict[str, Any], models: bool, checkpoints: bool) -> None:
    """Refuse options that describe a network if no such network is brought."""
    if not (models or checkpoints) and (common["mean"] or common["std"]):
        raise SelbenchError(
            "--mean and --std describe a --checkpoint or a --model; give one, or set them in the "
            "study's [model]"
        )
    both = ("mean", "std", *(["input_size", "entry", "name", "logits"] if checkpoints else []))
    idle = [f"--{n.replace('_', '-')}" for n, value in common.items() if value and n not in both]
    if models and checkpoints and set(idle) - {"--weights"}:
        option = min(set(idle) - {"--weights"})
        raise SelbenchError(f"{option} describes a --model, not a --checkpoint; use two commands")
    if idle and not models:
        option = idle[0]
        raise SelbenchError(
            f"{option} describes a network that you bring; name it with --model, or leave {option} "
            "out"
        )


def study_words(study: str | None, options: NetworkOptions, **more: object) -> tuple[str, ...]:
    """Return the command-line words that name a study and its data, followed by `more` options."""
    from selbench.request import option_words

    named = () if study is None else (study,)
    values = {each: getattr(options, each) for each in ("data", "source", "scale", "trained")}
    return *named, *option_words(**values, **options.framing, **more)


def network_words(options: NetworkOptions) -> tuple[str, ...]:
    """Return the command-line words that bring networks and name their data set."""
    from selbench.request import option_words

    which = {each: getattr(options, each) for each in ("model", "checkpoint", "dataset")}
    return option_words(**which, **options.described)


def opened_session(
    study: "Study | str",
    options: NetworkOptions,
    device: str,
    quiet: bool,
    engine: "Engine | None" = None,
    verbose: bool = False,
) -> "Session":
    """Open the study with all options applied; see `Session.open` for the arguments."""
    from selbench.datasets.frame import frame_of
    from selbench.session import Session

    alphas, seeds = split_words(options.alpha), split_words(options.seed)
    session = Session.open(
        study,
        alphas,
        seeds,
        device,
        options.data,
        shown(quiet, verbose),
        options.source,
        options.scale,
        engine,
        options.framing,
        networks_named(options),
    )
    if session.dataset.framed and not quiet:
        note(f"images: {frame_of(session.study.dataset)}")
    return session


def networks_of(
    session: "Session",
    options: NetworkOptions,
    specs: "Sequence[NetworkSpec]",
    quiet: bool,
    store: Path | None = None,
) -> "list[Network]":
    """Return the networks that need no training, and report what was found about brought ones.

    All are checked before any is evaluated; the list is empty if the session must train.
    """
    from selbench.networks.network import exported

    if options.trained:
        return exported(options.trained.expanduser(), session.study, session.dataset)
    found = [session.bring(each) for each in specs]
    names = options.name or [each.name for each in found]
    for name in names:
        if not name.strip():
            raise SelbenchError("--name is empty; give the name of the network in tables")
        if names.count(name) > 1:
            raise SelbenchError(f"{name} is named twice; name each network once")
    found = [replace(each, name=name) for each, name in zip(found, names, strict=True)]
    found = found if store is None else session.named(store, found)
    if not quiet:
        for each in found:
            note(f"{each.name}: {each.about}")
    return found


def starting(quiet: bool) -> None:
    """Report that the command has begun: importing torch takes seconds."""
    if not quiet and "torch" not in sys.modules:
        note("starting: PyTorch takes some seconds to load")


def note(line: str) -> None:
    """Print a remark to the standard error."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(printable(line), style="dim", soft_wrap=True)
