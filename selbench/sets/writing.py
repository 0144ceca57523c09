"""Write corrupted sets, a level (a corruption at a severity) at a time; a stopped command resumes.

Unfinished files have hidden names. A level counts once the set's description says that it is
finished; only then do its files get the names that readers look for, where the layout allows it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import md5
from importlib.metadata import version
from pathlib import Path

import torch

from corruptions import CORRUPTIONS
from selbench._kit.crew import Map, crew
from selbench._kit.device import deterministic, versions
from selbench._kit.errors import SelbenchError
from selbench._kit.files import cannot_write, md5_of, replacing
from selbench._kit.outputs import check_folder
from selbench._kit.progress import SILENT, Progress, Step
from selbench.sets.layout import (
    ABOUT,
    ELSEWHERE,
    LABELS,
    About,
    Part,
    npy_labels,
    read_about,
)
from selbench.sets.level_files import Arrays, Files, Tree
from selbench.sets.source import Source
from selbench.sets.treatment import Treatment, find_variants
from selbench.study import count_of


def write_set(
    source: Source,
    output: Path,
    treatment: Treatment,
    layout: str,
    device: torch.device,
    progress: Progress = SILENT,
) -> About:
    """Write the corrupted images of `source` into the folder `output`, or resume writing.

    Finished levels of the same set are kept, unless another version or variant of a corruption made
    them. In the layout "folder", images are compressed after the noise was added, as in the
    published Tiny-ImageNet-C. `layout` is "npy" or "folder".

    Raises:
        SelbenchError: for a folder with other files or a different set, or into which another
            command writes, for images whose sizes do not fit, and for errors of writing.
    """
    with _write_errors(output):
        _check_place(output, source)
        survey = source.survey()
        treatment = treatment.fitted(set(survey.sizes))
        variants = find_variants(treatment.corruptions)
        files: Files = Tree(output, source)
        if layout == "npy":
            files = Arrays(output, source, treatment.severities, source.size())
        with _locked(output):
            labels = b""
            if layout == "npy" and source.labels is not None:
                labels = npy_labels(source.labels, len(source.classes), len(treatment.severities))
            about = _opened(output, _wanted(source, treatment, layout, labels))
            making = _Making(source, treatment, output, files, about, device)
            parts = {name: making.find(name, variant) for name, variant in variants.items()}
            if labels:
                _write_bytes(output / LABELS, labels)
            making.run(parts, progress)
            return making.about


def _wanted(source: Source, treatment: Treatment, layout: str, labels: bytes) -> About:
    facts = {
        "layout": layout,
        "data": source.survey().checksum,
        "images": len(source),
        "classes": source.classes,
        "seed": treatment.seed,
        "scale": treatment.scale,
        "severities": treatment.severities,
        "versions": {**versions(), "pillow": version("pillow")},
        "labels": md5(labels, usedforsecurity=False).hexdigest() if labels else "",
    }
    return About.model_validate(facts)


def describe(about: About) -> str:
    """Describe a set, and which of its corruptions are not the published ones."""
    unlike = [f"{name} is {part.variant}" for name, part in about.parts.items() if part.variant]
    parts = count_of(len(about.parts), "corruption")
    text = f"{parts} at {len(about.severities)} severities of {about.images} images"
    return f"{text}; {', '.join(unlike)}" if unlike else text


@contextmanager
def _write_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise cannot_write(Path(problem.filename or output), problem, ELSEWHERE) from problem


def _check_place(output: Path, source: Source) -> None:
    if source.root is not None and output.resolve().is_relative_to(source.root.resolve()):
        raise SelbenchError(
            f"OUTPUT {output} is in the folder {source.root} that is corrupted; choose one outside"
        )
    check_folder(output, "OUTPUT")


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Lock a folder against other commands; the system releases the lock when the process ends."""
    # `Locks` need a minute to notice a dead holder on another machine; this decides at once.
    output.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise SelbenchError(
                f"another command is writing into {output}; wait for its end, or choose another "
                "folder"
            ) from problem
        except OSError:
            pass  # the file system has no locks
        yield
    finally:
        os.close(folder)


def _opened(output: Path, wanted: About) -> About:
    """Return the description of the set in `output`; write `wanted` if the folder is empty."""
    about = read_about(output)
    if about is not None:
        _compare(output, about, wanted)
        for leftover in output.glob(".*.tmp"):  # left by a killed command
            leftover.unlink()
        return about
    strangers = [path for path in output.glob("*") if not path.name.startswith(f".{ABOUT}.")]
    if strangers:
        raise SelbenchError(
            f"{output} holds {min(strangers).name} and is not a set that selbench wrote; choose "
            "another folder"
        )
    wanted.write(output)
    return wanted


def _compare(output: Path, about: About, wanted: About) -> None:
    """Raise `SelbenchError` if the set differs from the requested one."""

    def shown(value: int | str | tuple[int, ...]) -> str:
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    pairs = {
        "--format": (about.layout, wanted.layout),
        "--seed": (about.seed, wanted.seed),
        "--scale": (about.scale, wanted.scale),
        "--severity": (about.severities, wanted.severities),
    }
    differences = [f"with {k} {shown(a)}, not {shown(b)}" for k, (a, b) in pairs.items() if a != b]
    images = (about.data, about.images, about.classes)
    if images != (wanted.data, wanted.images, wanted.classes):
        differences.insert(0, "from other images")
    if differences:
        raise SelbenchError(
            f"the set in {output} was made {' and '.join(differences)}; choose another folder"
        )


def _write_bytes(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        with replacing(path, ELSEWHERE) as temporary:
            temporary.write_bytes(content)


@dataclass
class _Making:
    """A set that is being written; `about` is its current description."""

    source: Source
    treatment: Treatment
    output: Path
    files: Files
    about: About
    device: torch.device

    def find(self, name: str, variant: str) -> Part:
        """Return the part of a corruption that can be kept."""
        new = Part(version=CORRUPTIONS[name].version, variant=variant)
        old = self.about.parts.get(name)
        stranger = self.files.present(name)
        if old is None and stranger is not None:
            raise SelbenchError(
                f"{stranger} is there, and selbench did not write it; move it away or choose "
                "another folder"
            )
        if old is None or (old.version, old.variant) != (new.version, new.variant):
            return new
        kept, complete = self.files.kept(name, old.finished), self.files.present(name)
        if old.md5 and complete is not None and md5_of(complete) != old.md5:
            kept = ()
        return self._with(new, kept, old.md5 if kept == old.finished else "")

    def run(self, parts: dict[str, Part], progress: Progress) -> None:
        """Make the missing levels of `parts`."""
        levels = len(parts) * len(self.treatment.severities)
        there = sum(len(part.finished) for part in parts.values())
        count = len(self.source)
        with (
            deterministic(self.device),
            progress.track("corrupt", levels * count, there * count) as step,
            crew(True, self.device, step) as (run_all, safe_step),
        ):
            for name, part in parts.items():
                with self._tidy(name):
                    self._note(name, part)
                    self.files.begin(name, part.finished)
                    self.files.publish(name, part.finished)
                    for severity in self.treatment.severities:
                        if severity not in part.finished:
                            self._make(name, severity, run_all, safe_step)
                            self._finish(name, severity)

    @contextmanager
    def _tidy(self, name: str) -> Iterator[None]:
        """Remove a corruption that could not be written, unless a part of it can be kept."""
        try:
            yield
        except (OSError, SelbenchError):
            part = self.about.parts.get(name)
            if part is not None and not part.finished:
                with suppress(OSError):
                    self.files.drop(name)
            raise

    def _make(self, name: str, severity: int, run_all: Map[range, None], step: Step) -> None:
        def make(rows: range) -> None:
            images = self.treatment.apply(self.source, rows, name, severity, self.device)
            self.files.place(name, severity, rows, images)
            step(len(rows), f"{name} {severity}")

        run_all(make, self.source.batches(self.device))

    def _finish(self, name: str, severity: int) -> None:
        part = self.about.parts[name]
        finished = (*part.finished, severity)
        part = self._with(part, finished, self.files.md5(name, finished))
        self._note(name, part)
        self.files.publish(name, part.finished)

    def _with(self, part: Part, finished: tuple[int, ...], md5: str) -> Part:
        return part.model_copy(update={"finished": tuple(sorted(finished)), "md5": md5})

    def _note(self, name: str, part: Part) -> None:
        if self.about.parts.get(name) != part:
            parts = {**self.about.parts, name: part}
            about = self.about.model_copy(update={"parts": parts})
            about.write(self.output)
            self.about = about
