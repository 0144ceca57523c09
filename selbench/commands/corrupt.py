"""The command `selbench corrupt`: write images under corruptions, or show them."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selbench._kit.errors import SelbenchError, unknown
from selbench.commands.options import (
    BROUGHT,
    BroughtOptions,
    Corruptions,
    Device,
    Force,
    NetworkOptions,
    Quiet,
    expanded,
    grouped,
    refuse_idle,
    say,
    shown,
    split_words,
)
from selbench.commands.remembered import check_models, check_names

if TYPE_CHECKING:
    import torch

    from selbench._kit.progress import Progress
    from selbench._kit.types import Labels, Pixels
    from selbench.networks.network import Network
    from selbench.session import Session
    from selbench.sets.sheet import Answers
    from selbench.sets.source import Source


@grouped
def corrupt(
    input: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="A data set, whose test images are used, or a folder of images: with train/ "
            "and test/, with a folder for each class, or only images.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="The folder to write the set into.")
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            help="Suite of corruptions: corruptions, corruptions-extra, both (corruptions-all), or "
            "corruptions-bar."
        ),
    ] = "corruptions-all",
    corruption: Corruptions = None,
    severity: Annotated[
        list[str] | None, typer.Option(help="Only these of 1 to 5; repeat or use commas.")
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help='"npy" as CIFAR-10-C, or "folder" as Tiny-ImageNet-C: JPEG files of quality 85, '
            "which compress the corruption with the image."
        ),
    ] = "npy",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    options: BroughtOptions = BROUGHT,
    preview: Annotated[
        Path | None, typer.Option(help="Draw a contact sheet, a PNG file; needs no OUTPUT.")
    ] = None,
    self_check: Annotated[
        bool,
        typer.Option(
            "--self-check",
            help="Write nothing; compare the deterministic corruptions with the published "
            "CIFAR-10-C.",
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="With --self-check: compare with the .npy files of this folder too."),
    ] = None,
    force: Force = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Write images under corruptions, in the layouts of the published sets, or show them.

    If interrupted, rerun it to resume; with other corruptions it adds these.
    `selbench run --source OUTPUT` evaluates on the set.
    """
    check_names("corruption", split_words(corruption))
    check_models(options.model or [])

    from selbench._kit.device import choose_device
    from selbench._kit.outputs import check_folder
    from selbench.sets.sheet import check_place, write_sheet
    from selbench.sets.treatment import Treatment, choose_scale, choose_severities
    from selbench.sets.treatment import choose_corruptions as choose
    from selbench.sets.writing import describe, write_set
    from selbench.study import count_of

    words, scale, progress = split_words(corruption), choose_scale(options.scale), shown(quiet)
    names = choose(words, suite)
    if self_check:
        given = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "data"}
        idle = {
            "OUTPUT": output,
            "--severity": severity,
            "--suite": suite != "corruptions-all",
            "--preview": preview,
            "--seed": seed,
            "--format": format != "npy",
            **{f"--{each.replace('_', '-')}": value for each, value in given.items()},
            "--scale": scale and not against,
        }
        refuse_idle([option for option, given in idle.items() if given])
        against = expanded(against)
        _self_check(input or "cifar10", options.data, names, scale, against, device, progress)
        return
    name = _to_corrupt(input, output, preview, format, against, options)
    output, preview = expanded(output), expanded(preview)
    if output:
        check_folder(output, "OUTPUT")
    if preview:
        check_place(preview, force)
    severities = choose_severities(split_words(severity))
    generated = options.source in (None, "generated")
    if not generated and (preview is None or output or seed or scale):
        raise SelbenchError(
            "--source shows an existing set; give --preview, and leave out OUTPUT, --seed and "
            "--scale"
        )
    answers, shown_to = _answering(name, options, device, quiet) if options.brings else (None, None)
    if preview and not generated:
        say(_draw_set(name, options, shown_to, names, severities, preview, answers, progress))
        return
    where, images = choose_device(device), _source(name, options, shown_to, progress)
    names = choose(words, suite, scale or images.read(range(1)).shape[2])
    treatment = Treatment(names, severities, seed, scale)
    if output:
        about = write_set(images, output, treatment, format, where, progress)
        say(f"{output} holds {describe(about)}")
    if preview:
        write_sheet(images, preview, treatment, where, force, answers)
        say(f"{preview} shows {count_of(len(names), 'corruption')} of {name}")
        if answers:
            say(f"{answers.name}: {answers.count}")


def _answering(
    name: str, options: BroughtOptions, device: str, quiet: bool
) -> "tuple[Answers, Session]":
    """Return the network's answers to images, and the session with these images."""
    from selbench.commands.naming import (
        chosen_study,
        networks_named,
        networks_of,
        opened_session,
    )
    from selbench.datasets import DATASETS
    from selbench.sets.source import a_folder

    given = NetworkOptions(**vars(options))
    if name not in DATASETS and options.data is not None:
        raise a_folder(name)
    known = {"dataset": name} if name in DATASETS else {"dataset": "folder", "data": Path(name)}
    given = replace(given, **known)
    specs = networks_named(given)
    if len(specs) > 1:
        raise SelbenchError(
            f"--preview shows the answers of one network, got {len(specs)}; run one command "
            "for each"
        )
    session = opened_session(chosen_study(None, given), given, device, quiet)
    (network,) = networks_of(session, given, specs, quiet)
    return answers_of(network, session.device), session


def answers_of(network: "Network", device: "torch.device") -> "Answers":
    """Return a function that asks a network for the classes of images."""
    import torch

    from selbench._kit.device import measuring
    from selbench._kit.types import to_images
    from selbench.sets.sheet import Answers

    module = network.load().to(device).eval()

    @measuring()
    @torch.inference_mode()
    def predict(images: "Pixels") -> "Labels":
        logits: torch.Tensor = module(to_images(images.to(device)))
        return logits.argmax(1).cpu()

    return Answers(network.name, predict)


def _source(
    name: str, options: BroughtOptions, session: "Session | None", progress: "Progress"
) -> "Source":
    """Return the images to corrupt: a network's inputs, a data set's images, or a folder's."""
    from selbench.networks.framing import given_frame
    from selbench.sets.source import open_source, source_of

    if session:
        return source_of(name, session.dataset, session.study.dataset.root)
    return open_source(name, options.data, progress, given_frame(options.framing))


def _draw_set(
    name: str,
    options: BroughtOptions,
    session: "Session | None",
    names: Sequence[str],
    severities: Sequence[int],
    preview: Path,
    answers: "Answers | None",
    progress: "Progress",
) -> str:
    """Draw an existing set next to the clean images of the data set or folder `name`."""
    from selbench.datasets import DATASETS
    from selbench.datasets.dataset import decoded
    from selbench.datasets.frame import frame_of
    from selbench.networks.framing import given_frame
    from selbench.sets.set_sheet import write_set_sheet
    from selbench.sets.shifted import named_set

    if session:
        dataset, frame = session.dataset, frame_of(session.study.dataset)
    else:
        known = name in DATASETS
        root = expanded(options.data) if known else Path(name).expanduser()
        frame = given_frame(options.framing)
        dataset = decoded(name if known else "folder", root, progress, frame)
    found = named_set(str(options.source), dataset, frame)
    message = write_set_sheet(found, dataset, names, severities, preview, answers)
    return f"{message}; {answers.name}: {answers.count}" if answers else message


def _to_corrupt(
    input: str | None,
    output: Path | None,
    preview: Path | None,
    format: str,
    against: Path | None,
    options: BroughtOptions,
) -> str:
    """Return the name of the images, after checking that the options fit together."""
    if against:
        raise SelbenchError("--against belongs to --self-check; give both")
    if input is not None and options.dataset is not None:
        raise SelbenchError(
            f"INPUT ({input}) and --dataset {options.dataset} both name images; leave out one"
        )
    name = input or options.dataset
    if name is None or not (output or preview):
        raise SelbenchError(
            "say what to corrupt (INPUT: a data set's name or a folder) and what to make of it "
            "(OUTPUT: a folder, or --preview sheet.png), or --self-check"
        )
    described = [each for each, value in options.described.items() if value]
    if (options.brings or described) and (output or not preview):
        raise SelbenchError(
            "--preview shows a network's answers, and OUTPUT needs no network; give --preview "
            "without OUTPUT, or leave out the network"
        )
    if described and not options.brings:
        option = described[0].replace("_", "-")
        raise SelbenchError(
            f"--{option} describes a network; name it with --model, or leave --{option} out"
        )
    if format not in ("npy", "folder"):
        raise unknown("format", format, ("npy", "folder"))
    return name


def _self_check(
    input: str,
    data: Path | None,
    names: Sequence[str],
    scale: int | None,
    against: Path | None,
    device: str,
    progress: "Progress",
) -> None:
    from selbench._kit.device import choose_device
    from selbench.sets.conformity import check, summary, to_table
    from selbench.sets.source import open_source

    source = open_source(input, data, progress)
    findings = check(source, names, scale, against, choose_device(device), progress)
    Console().print(to_table(findings))
    say(summary(findings, against))
