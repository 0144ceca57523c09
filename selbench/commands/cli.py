"""The command `selbench`. Heavy libraries are imported inside commands, so that --help is quick."""

import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from selbench import __version__
from selbench._kit.deadline import OutOfTimeError
from selbench._kit.errors import SelbenchError, in_short, naming_options
from selbench._kit.memory import keep_memory
from selbench._kit.printable import printable
from selbench._kit.registry import load_plugins
from selbench.commands.calibration import calibration
from selbench.commands.check import baseline, check
from selbench.commands.claims import claims
from selbench.commands.corrupt import corrupt
from selbench.commands.init import init
from selbench.commands.leaderboard import leaderboard
from selbench.commands.listing import list_
from selbench.commands.model_info import model_info
from selbench.commands.options import (
    Alphas,
    Data,
    Device,
    Force,
    Place,
    Quiet,
    Seeds,
    Store,
    StudyName,
    expanded,
    opened,
    say,
    shown,
    split_words,
)
from selbench.commands.panels import Example, add
from selbench.commands.probe import probe
from selbench.commands.remembered import check_names, check_typed, remember
from selbench.commands.report import report
from selbench.commands.run import run
from selbench.commands.verify import verify

NAME = "selbench"  # also used for `python -m selbench`
COMPLETION = "_SELBENCH_COMPLETE"  # shells set it to ask for completions
COMPLETING = frozenset({"--install-completion", "--show-completion"})
OUTPUT = 1  # number of the standard output

# Exit codes; those of single commands are defined there. docs/faults.md lists all.
TO_MEND = 2
OWN_ERROR = 70  # EX_SOFTWARE of sysexits.h
LOOP = "Symlink loop from "  # message before Python 3.13
NO_HOME = "Could not determine home directory."  # pathlib's message for an unknown user's ~
INTERRUPTED = 130  # as for SIGINT in shells
READER_LEFT = 141  # as for SIGPIPE in shells
TERMINATED = 143  # as for SIGTERM in shells
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|bad_alloc|Cannot allocate memory")
RESUMES = "run the same command again to resume"
NOTHING = "nothing was kept; with --store the same command can resume"

app = typer.Typer(
    name="selbench",
    help="Measure how robust image classifiers are to corruptions and attacks, and why.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def train(
    study: StudyName = "digits",
    alpha: Alphas = None,
    seed: Seeds = None,
    device: Device = "auto",
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for copies of the weights, as safetensors.")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Write float16 copies, half the size.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train a study's networks and keep their weights; evaluate nothing."""
    from selbench._kit.outputs import WEIGHTS, check_file, check_folder
    from selbench.study import load_study

    if half and output is None:
        raise SelbenchError("--half needs --output FOLDER, which writes the copies; give both")
    output = expanded(output)
    if output is not None:
        check_folder(output, "--output")
    chosen, alphas, seeds = load_study(study), split_words(alpha), split_words(seed)
    check_typed(None, None, None, alpha, seed)

    from selbench.networks.network import copies, export  # imports torch, which takes seconds
    from selbench.session import Session

    session = Session.open(chosen, alphas, seeds, device, data, shown(quiet))
    places = {} if output is None else copies(session.study, output)
    for path in places.values():
        check_file(path, WEIGHTS, "--output", force)
    for subject in session.train():
        say(f"{subject.name}  weights {subject.weights}")
        if places:
            export(subject, places[subject.name], half)


def figure(
    name: Annotated[str, typer.Argument(help="Which one; see `selbench list`.")],
    place: Place = None,
    output: Annotated[Path, typer.Option(help="An .svg, .png or .pdf file.")] = Path("figure.svg"),
    store: Store = Path("runs"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the runs with this --limit.")
    ] = None,
    force: Force = False,
) -> None:
    """Draw a figure from a store."""
    check_names("figure", [name])
    from selbench.figures import check_figure, draw

    output = output.expanduser()
    check_figure(name, output, force)
    with opened([place] if place else [], store) as studies:
        if len(studies) > 1:
            names = ", ".join(each.study for each in studies)
            raise SelbenchError(f"{place or store} holds the studies {names}; name one of them")
        draw(name, studies[0], limit, output, force)
        say(f"{output} shows {name} of {studies[0].study}")


def download(
    dataset: Annotated[
        str,
        typer.Argument(
            help="cifar10, cifar100 or tiny-imagenet; with -c at its end, its corrupted set."
        ),
    ],
    quiet: Quiet = False,
) -> None:
    """Download a data set, check it, and unpack it where studies look for it.

    If interrupted, rerun it to resume.
    """
    from selbench._kit.files import home
    from selbench.datasets import DOWNLOADS

    place = DOWNLOADS[dataset](home() / "datasets", shown(quiet))
    say(f"{dataset} is in {place}")


add(
    app,
    run,
    Example("run", "15 networks on handwritten digits, under 15 corruptions; no download"),
    Example("run cifar10 --model robustbench:Standard --suite attacks", "a published network"),
    Example(
        "run --model net.py:build --dataset folder --data photos/ --limit 500",
        "your network on your images: photos/test/<class>/*",
    ),
    panels=True,
)
add(app, init, Example("init photos/ --model timm:resnet18 --pretrained", "for your images"))
add(app, train, Example("train digits --output weights/", "keep copies of the weights"))
add(app, leaderboard, Example("leaderboard --columns clean,mce --sort mce", "the best first"))
add(app, figure, Example("figure tradeoff digits --output tradeoff.svg", "or .png, .pdf"))
add(app, report, Example("report --output site/", "then open site/index.html"))
add(app, claims)
add(app, calibration)
add(app, baseline, Example("baseline --subject alpha=0", "of the digits study"), panels=True)
add(app, check, Example("check --junit check.xml", "in continuous integration"), panels=True)
add(app, probe, Example("probe net.py:build", "before you trust its numbers"), panels=True)
add(app, corrupt, Example("corrupt photos/ --preview sheet.png --scale 224", "only look"))
add(app, download, Example("download cifar10", "then: selbench run cifar10"))
add(app, verify, Example("verify runs/", "every file of a store"))
add(app, model_info, name="model-info")
add(app, list_, Example("list metrics --json", "for programs"), name="list")


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"selbench {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command; without a command, print help."""
    load_plugins()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


# Older releases of typer use click's own class, newer ones a private copy of it.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command line; a problem that the user can fix is one sentence with exit code 2."""
    warnings.formatwarning = lambda message, *place: printable(f"selbench: {message}") + "\n"
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # selbench does so too
    if COMPLETION in os.environ or {*sys.argv[1:2]} & COMPLETING:
        app(prog_name=NAME)  # ends the process
    light = "torch" not in sys.modules
    with _streams(), _terminable(), naming_options():
        code = _ended()
    if light and "torch" in sys.modules:
        remember()
    sys.exit(code)


def _ended() -> int:
    """Run the command, report any problem, and return the exit code."""
    try:
        code = _command()
    except _ReaderLeftError:
        return READER_LEFT
    except SelbenchError as problem:
        return _fail(str(problem), TO_MEND)
    except UsageError as problem:
        return _fail(f"{problem.format_message().rstrip('.')}. See selbench --help.", TO_MEND)  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except _TerminatedError:
        return _fail(f"terminated; {_advice_to_resume()}", TERMINATED)
    except SystemExit as problem:  # from a plugin or a network: commands do not use it
        return _fail(f"foreign code ended the program with sys.exit({problem.code})", TO_MEND)
    except Exception as problem:
        if sentence := _of_the_machine(problem):
            return _fail(sentence, TO_MEND)
        traceback.print_exc()
        return OWN_ERROR
    if code == INTERRUPTED:
        _fail(f"interrupted; {_advice_to_resume()}", code)
    return code


def _advice_to_resume() -> str:
    """Return what the same command would do when run again."""
    name, *words = (*sys.argv[1:], "")
    stores = any(word.partition("=")[0] == "--store" for word in words)
    return NOTHING if name in ("baseline", "check") and not stores else RESUMES


def _of_the_machine(problem: Exception) -> str:
    """Return a sentence if the system caused the problem and the user can fix it, otherwise ""."""
    if str(problem) == NO_HOME:
        return "a path begins with the ~ of no user here; write it in full"
    if isinstance(problem, OutOfTimeError):
        return f"a network gave no answer: {problem}; leave it out"
    if str(problem).startswith(LOOP):
        return f"cannot use {str(problem).removeprefix(LOOP)}: it is a link that leads to itself"
    if isinstance(problem, OSError) and problem.filename is not None:
        name = os.fsdecode(problem.filename) if isinstance(problem.filename, str | bytes) else ""
        return f"cannot use {name}: {problem.strerror}; check its name and permissions"
    if isinstance(problem, MemoryError) or OUT_OF_MEMORY.search(str(problem)):
        reason = in_short(problem) if str(problem) else "an allocation failed"
        return f"the memory does not suffice ({reason}); free some, or ask for less"
    return ""


def _command() -> int:
    if sys.stdout is None:
        raise SelbenchError("the standard output is closed; send it to a file, or to /dev/null")
    keep_memory()
    code: int = app(standalone_mode=False, prog_name=NAME) or 0
    sys.stdout.flush()
    return code


class _TerminatedError(BaseException):
    """Ends the program on SIGTERM; a BaseException, so that no `except Exception` catches it."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM raise `_TerminatedError`, so that locks are released on the way out."""

    def terminate(*_: Any) -> None:
        raise _TerminatedError

    if threading.current_thread() is not threading.main_thread():  # others cannot set signals
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _ReaderLeftError(SelbenchError):
    """The reader of the standard output has closed it."""


class _Stream(io.FileIO):
    """The standard output or standard error; it fails once, then ignores all content.

    A failure of the standard output is raised. What the standard error cannot write is dropped,
    since it could not be reported.
    """

    failed = False

    def write(self, content: Any, /) -> int:
        if not self.failed:
            try:
                return super().write(content)
            except OSError as problem:
                self.failed = True
                if self.fileno() == OUTPUT:
                    raise _unwritten(problem) from problem
        return memoryview(content).nbytes


def _unwritten(problem: OSError) -> SelbenchError:
    if isinstance(problem, BrokenPipeError):
        return _ReaderLeftError("the reader of the standard output has left")
    return SelbenchError(
        f"cannot write the standard output: {problem.strerror}; make room there, or send it "
        "elsewhere"
    )


@contextmanager
def _streams() -> Iterator[None]:
    """Make standard streams report their failures and escape what their encoding lacks."""
    before = sys.stdout, sys.stderr
    if sys.stderr is None:
        sys.stderr = _text(_Stream(os.devnull, "w"), "utf-8")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _text(_Stream(stream.fileno(), "w", closefd=False), stream.encoding))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _text(stream: _Stream, encoding: str) -> TextIO:
    buffer = io.BufferedWriter(stream)
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


def _fail(sentence: str, code: int) -> int:
    say(f"selbench: {sentence}", err=True)
    return code
