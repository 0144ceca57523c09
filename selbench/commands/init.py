"""The command `selbench init`: writes a study for a folder of images, and prints what to run."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selbench._kit.errors import ManySizesError, SelbenchError
from selbench.commands.naming import (
    chosen_study,
    networks_named,
    networks_of,
    note,
    opened_session,
)
from selbench.commands.options import (
    NETWORKS,
    Device,
    Force,
    NetworkOptions,
    Quiet,
    expanded,
    grouped,
    say,
)

if TYPE_CHECKING:
    from selbench.session import Session
    from selbench.study import Study

ENOUGH = 1000  # images on which a check of a network with itself detects 3 points
FIRST = "# A study for selbench: which images, and what is measured on them.\n"


@grouped
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Images: <class>/, test/<class>/ or the like.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The study's file; default: FOLDER's name with .toml."),
    ] = None,
    options: NetworkOptions = NETWORKS,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a study of a folder of images, and print the commands that test a network on it.

    The network and the images are checked first, so the commands run as printed.
    """
    from selbench._kit.files import write_text
    from selbench._kit.outputs import STUDY, check_file
    from selbench.request import option_words

    if not options.model:
        raise SelbenchError("say which network to test: --model torchvision:resnet18, for example")
    if options.dataset or options.data:
        raise SelbenchError("FOLDER holds the images; leave out --dataset and --data")
    here = folder.expanduser()
    output = expanded(output) or Path(f"{here.absolute().name}.toml")
    check_file(output, STUDY, "--output", force)
    given = replace(options, dataset="folder", data=here)
    specs = networks_named(given)
    session = _scaled(_opened(given, device, quiet), quiet)
    networks = networks_of(session, given, specs, quiet)
    text = _text(session.study, output)
    if output.is_file() and not force and output.read_bytes() != text.encode():
        raise SelbenchError(
            f"{output} is another study, which may have been edited; name another file (--output), "
            "or replace it with --force"
        )
    write_text(output, text, "--output")
    words = option_words(model=options.model, **options.described)
    file = f"./{output}" if str(output).startswith("-") else str(output)  # not an option
    run, store = [file, *words], session.study.name
    say(f"{output} describes {len(session.dataset.test)} images of {here}; now run")
    for command in (["run", *run], ["report", store], ["baseline", *run, "--suite", "corruptions"]):
        say(f"    {shlex.join(['selbench', *command])}")
    say("and, whenever the network has changed,")
    enough = len(session.dataset.test) >= ENOUGH
    say(f"    {shlex.join(['selbench', 'check', *run, *(['--detect', '3'] if enough else [])])}")
    for each in networks:
        if each.name.endswith("(random)"):
            say(f"{each.name} is untrained: give its weights with --weights or --pretrained.")
    if not enough:
        say(f"To detect drops of 3 points (--detect 3), a check needs about {ENOUGH:,} images.")


def _opened(options: NetworkOptions, device: str, quiet: bool) -> "Session":
    """Open the images; if their sizes differ, scale them to the size that the network declares."""
    from selbench.networks.framing import DECLARE
    from selbench.study import NETWORK

    try:
        return opened_session(chosen_study(None, options), options, device, quiet)
    except ManySizesError:
        kinds = {each.partition(":")[0] for each in options.model or ()}
        if options.framing or not kinds <= set(DECLARE):
            raise
        return _opened(replace(options, resize=NETWORK), device, quiet)


def _scaled(session: "Session", quiet: bool) -> "Session":
    """Use corruption constants of the nearest size, if the images' size has none of its own."""
    from selbench.request import Request
    from selbench.suites.corrupted import nearest_scale

    asked = Request(suites=("corruptions",))
    try:
        session.pieces(asked)
    except SelbenchError:
        setting = session.setting()
        if setting.scale or setting.stored:
            raise
        scale = nearest_scale(setting)
        session = session.sourced(None, scale)
        session.pieces(asked)  # raises if the scale does not help
        if not quiet:
            size = f"{setting.width} x {setting.height}"
            note(f"corruptions: with the constants of {scale} pixels, the nearest to {size}")
    return session


def _text(study: "Study", output: Path) -> str:
    """Return a study that trains nothing, as TOML with comments."""
    data = study.dataset
    root = os.path.relpath(data.root or Path(), output.absolute().parent)
    frame = [
        f"{name} = {_quoted(value)}  # {why}\n"
        for name, value, why in (
            ("resize", data.resize, "pixels that the shorter side of an image is scaled to"),
            ("crop", data.crop, "side of the square that is then cut from the centre"),
            ("interpolation", data.interpolation, "bilinear, bicubic or nearest"),
        )
        if value is not None
    ]
    scale = study.corruptions.scale
    corruptions = f"scale = {scale}" if scale else "# scale = 224  # constants of another size"
    return (
        f"{FIRST}"
        f"name = {_quoted(study.name)}  # of its results in the store\n"
        f"description = {_quoted(study.description)}\n"
        'suites = ["corruptions"]  # add "attacks", or others of `selbench list`\n'
        "alphas = [0]  # of networks that selbench trains; here it trains none\n"
        "seeds = [0]\n\n"
        "[dataset]\n"
        'name = "folder"\n'
        f"root = {_quoted(str(root))}  # relative to this file\n"
        f"validation = {data.validation}  # training images held out; none are needed\n"
        f"{''.join(frame)}\n"
        "[corruptions]\n"
        f"source = {_quoted(study.corruptions.source)}  # or the folder of a corrupted set\n"
        f"{corruptions}\n\n"
        "# Networks are named on the command line, since that may run their code.\n"
        "[model]\n"
        f"name = {_quoted(study.model.name)}\n\n"
        "[recipe]  # unused\n"
        "epochs = 1\n"
        "batch_size = 2\n"
        "learning_rate = 1.0\n"
    )


def _quoted(value: object) -> str:
    """Write text or a number as TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
