"""The command `selbench corrupt`: write images under corruptions, or show them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selbench.errors import SelbenchError, unknown
from selbench.options import (
    Corruptions,
    Crop,
    Device,
    Force,
    Interpolation,
    Quiet,
    Resize,
    expanded,
    framing,
    refuse_idle,
    say,
    shown,
    split_words,
)

if TYPE_CHECKING:
    from selbench.datasets.frame import Frame
    from selbench.progress import Progress


def corrupt(
    input: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="A data set, whose test images are taken, or a folder of images: with train/ and "
            "test/, with a folder for each class, or with the images themselves.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="The folder to write the set into.")
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            help="Whose corruptions: corruptions, corruptions-extra, both (corruptions-all), or "
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
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    scale: Annotated[
        int | None,
        typer.Option(help="Corrupt with the constants for images of 32, 64 or 224 pixels."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Where the data set's images lie.")] = None,
    resize: Resize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    preview: Annotated[
        Path | None, typer.Option(help="Draw a contact sheet, a PNG file; needs no OUTPUT.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help='With --preview: draw the set in a folder, or the "official" one.'),
    ] = None,
    self_check: Annotated[
        bool,
        typer.Option(
            "--self-check",
            help="Write nothing; compare the corruptions that draw nothing at random with the "
            "published CIFAR-10-C.",
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

    The same command goes on where an interrupted one stopped; with other corruptions it adds them.
    `selbench run --source OUTPUT` evaluates on the set.
    """
    from selbench.bring import given_frame
    from selbench.corrupted.sheet import check_place, write_sheet
    from selbench.corrupted.source import open_source
    from selbench.corrupted.treatment import Treatment, choose_scale, choose_severities
    from selbench.corrupted.treatment import choose_corruptions as choose
    from selbench.corrupted.writing import describe, write_set
    from selbench.device import choose_device
    from selbench.outputs import check_folder
    from selbench.study import count_of

    words, scale, progress = split_words(corruption), choose_scale(scale), shown(quiet)
    names = choose(words, suite)
    if self_check:
        idle = {
            "OUTPUT": output,
            "--severity": severity,
            "--suite": suite != "corruptions-all",
            "--preview": preview,
            "--seed": seed,
            "--format": format != "npy",
            "--scale": scale and not against,
            "--resize": resize,
            "--crop": crop,
            "--interpolation": interpolation,
        }
        refuse_idle([option for option, given in idle.items() if given])
        against = expanded(against)
        _self_check(input or "cifar10", data, names, scale, against, device, progress)
        return
    name = _to_corrupt(input, output, preview, format, against)
    output, preview = expanded(output), expanded(preview)
    if output:
        check_folder(output, "OUTPUT")
    if preview:
        check_place(preview, force)
    severities = choose_severities(split_words(severity))
    frame = given_frame(framing(resize, crop, interpolation))
    if source not in (None, "generated"):
        if preview is None or output or seed or scale:
            raise SelbenchError(
                "--source shows a set that is there; give --preview, and leave out OUTPUT, --seed "
                "and --scale"
            )
        say(_draw_set(name, data, frame, str(source), names, severities, preview, progress))
        return
    where, images = choose_device(device), open_source(name, data, progress, frame)
    names = choose(words, suite, scale or images.read(range(1)).shape[2])
    treatment = Treatment(names, severities, seed, scale)
    if output:
        about = write_set(images, output, treatment, format, where, progress)
        say(f"{output} holds {describe(about)}")
    if preview:
        write_sheet(images, preview, treatment, where, force)
        say(f"{preview} shows {count_of(len(names), 'corruption')} of {name}")


def _draw_set(
    name: str,
    data: Path | None,
    frame: "Frame | None",
    source: str,
    names: Sequence[str],
    severities: Sequence[int],
    preview: Path,
    progress: "Progress",
) -> str:
    """Draw a set on disk beside the clean images of the data set, or of the folder, `name`."""
    from selbench.corrupted.set_sheet import write_set_sheet
    from selbench.corrupted.shifted import named_set
    from selbench.datasets import DATASETS
    from selbench.datasets.dataset import decoded

    known = name in DATASETS
    root = expanded(data) if known else Path(name).expanduser()
    dataset = decoded(name if known else "folder", root, progress, frame)
    return write_set_sheet(named_set(source, dataset, frame), dataset, names, severities, preview)


def _to_corrupt(
    input: str | None, output: Path | None, preview: Path | None, format: str, against: Path | None
) -> str:
    """Return INPUT if what is given says what to make of it."""
    if against:
        raise SelbenchError("--against belongs to --self-check; give both")
    if input is None or not (output or preview):
        raise SelbenchError(
            "say what to corrupt (INPUT: a data set's name or a folder) and what to make of it "
            "(OUTPUT: a folder, or --preview sheet.png), or --self-check"
        )
    if format not in ("npy", "folder"):
        raise unknown("format", format, ("npy", "folder"))
    return input


def _self_check(
    input: str,
    data: Path | None,
    names: Sequence[str],
    scale: int | None,
    against: Path | None,
    device: str,
    progress: "Progress",
) -> None:
    from selbench.corrupted.check import check, summary, to_table
    from selbench.corrupted.source import open_source
    from selbench.device import choose_device

    source = open_source(input, data, progress)
    findings = check(source, names, scale, against, choose_device(device), progress)
    Console().print(to_table(findings))
    say(summary(findings, against))
