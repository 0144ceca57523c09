"""How commands name networks and their data, and what they say of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from selbench.errors import SelbenchError
from selbench.options import expanded, parse_channels
from selbench.printable import printable

if TYPE_CHECKING:
    from selbench.bring import NetworkSpec
    from selbench.session import Session
    from selbench.study import Study
    from selbench.subjects import Network


def chosen_study(
    name: str | None, dataset: str | None, data: Path | None, brought: bool
) -> "Study | str":
    """Return which study is meant: the one named, a data set's, or the digits'."""
    from selbench.bring import adhoc_study

    if dataset is None:
        return name or "digits"
    if name is not None:
        raise SelbenchError(
            f"the study {name} has a data set, and --dataset names another; leave out one of them"
        )
    if not brought:
        raise SelbenchError(
            "--dataset has images and nothing to train; bring a network with --model, or name a "
            "study, such as `selbench run digits`"
        )
    return adhoc_study(dataset, expanded(data))


def networks_named(
    models: Sequence[str], checkpoints: Sequence[Path], common: dict[str, Any], trains: bool
) -> "list[NetworkSpec]":
    """Return the networks that the user brings, in the order of the command line."""
    from selbench.bring import NetworkSpec, pair

    if trains and (models or checkpoints):
        option = "--model" if models else "--checkpoint"
        raise SelbenchError(f"--alpha and --seed train, {option} does not; leave out one of them")
    _refuse_idle(common, bool(models), bool(checkpoints))
    mean, std = (parse_channels(f"--{name}", common[name]) for name in ("mean", "std"))
    size = common["input_size"]
    entry = common["entry"]
    own = [NetworkSpec(path, mean, std, input_size=size, entry=entry) for path in checkpoints]
    said = NetworkSpec(
        mean=mean,
        std=std,
        pretrained=common["pretrained"],
        threat_model=common["threat_model"],
        input_size=size,
        class_map=expanded(common["class_map"]),
        entry=entry,
    )
    return own + (pair(models, common["weights"] or [], said) if models else [])


def _refuse_idle(common: dict[str, Any], models: bool, checkpoints: bool) -> None:
    """Refuse what describes a network where none is brought."""
    if not (models or checkpoints) and (common["mean"] or common["std"]):
        raise SelbenchError(
            "--mean and --std describe a --checkpoint or a --model; give one, or set them in the "
            "study's [model]"
        )
    both = ("mean", "std", *(["input_size", "entry"] if checkpoints else []))
    idle = [f"--{n.replace('_', '-')}" for n, value in common.items() if value and n not in both]
    if models and checkpoints and set(idle) - {"--weights"}:
        option = min(set(idle) - {"--weights"})
        raise SelbenchError(
            f"{option} describes a --model, not the --checkpoint beside it; take two commands"
        )
    if idle and not models:
        option = idle[0]
        raise SelbenchError(
            f"{option} describes a network that you bring; name it with --model, or leave {option} "
            "out"
        )


def taken(
    session: "Session", brought: "Sequence[NetworkSpec]", quiet: bool, store: Path | None = None
) -> "list[Network]":
    """Look at every network before any is evaluated, and say what was found.

    Where `store` has other networks of their names, they get names of their own.
    """
    subjects = [session.bring(each) for each in brought]
    subjects = subjects if store is None else session.named(store, subjects)
    names = [each.name for each in subjects]
    for name in names:
        if names.count(name) > 1:
            raise SelbenchError(f"{name} is there twice; name each network once")
    if not quiet:
        for each in subjects:
            note(f"{each.name}: {each.about}")
    return subjects


def note(line: str) -> None:
    """Say something beside the result."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(printable(line), style="dim", soft_wrap=True)
