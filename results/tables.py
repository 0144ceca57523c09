"""Derive the tables of every folder here from its measurements, or check that they are those.

python results/tables.py                    # compare; exit code 1 and a diff where one differs
python results/tables.py --write            # write them again, with the figures
python results/tables.py --from runs/digits # take a run's measurements, and write its tables
python results/tables.py --from runs/digits --add # the same, beside those of other networks here
"""

import argparse
import contextlib
import difflib
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

from selbench.commands.cli import main as command
from selbench.store import StudyStore
from selbench.store.records import digest_of
from selbench.store.tidy import PARQUET, parquet_of
from selbench.tables.current import current

HERE = Path(__file__).parent
TABLES = {
    "leaderboard.md": ("leaderboard", "--format", "md"),
    "leaderboard.csv": ("leaderboard", "--format", "csv"),
    "calibration.md": ("calibration", "--format", "md"),
    "claims.md": ("claims", "--format", "md"),
    "claims.json": ("claims", "--format", "json"),
}
# Of the networks' answers to every image, which a run keeps and this folder does not.
OF_A_RUN = {"correct-on-all.md": ("leaderboard", "--correct-on-all", "--format", "md")}
# What README.md here and in the folders quotes: between these marks is what the first one's
# command prints.
QUOTED = re.compile(
    r"(<!-- table: made by `selbench (?P<words>[^`\n]+)` -->\n).*?(?=<!-- end of table -->\n)",
    re.DOTALL,
)
FIGURES = (
    "ablation",
    "tradeoff",
    "tradeoff-relative",
    "tradeoff-odds",
    "tradeoff-selectivity",
    "differences",
    "corruptions",
    "attacks",
    "calibration",
    "selectivity",
    "dimensionality",
    "gradients",
    "jacobian",
    "elasticity",
    "training",
)


class RefusedError(SystemExit):
    """A command said that a study lacks what it needs."""


def main() -> None:
    """Compare the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--from", dest="run", type=Path)
    parser.add_argument("--add", action="store_true")
    asked = parser.parse_args()
    if asked.add and not asked.run:
        parser.error("--add takes the run of --from beside what is here; say both")
    if asked.run:
        take(asked.run, HERE / asked.run.name, add=asked.add)
        # of all networks: those that are joined left their answers elsewhere
        for name, words in OF_A_RUN.items() if not asked.add else ():
            made = selbench(*words, str(asked.run.absolute()))
            (HERE / asked.run.name / name).write_text(made)
    studies = sorted(path.parent for path in HERE.glob("*/manifest.json"))
    if asked.write or asked.run:
        for study in [HERE / asked.run.name] if asked.run else studies:
            write(study)
        for page in HERE.rglob("README.md"):
            page.write_text(quoted(page.read_text()))
        return
    if not studies:
        sys.exit("there is no results/*/manifest.json to check")
    tables = [(study, name) for study in studies for name in TABLES]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        differing = [
            line for lines in pool.map(differences, *zip(*tables, strict=True)) for line in lines
        ]
    for page in sorted(HERE.rglob("README.md")):
        text = page.read_text()
        differing += compared(text, quoted(text), page, "the commands it names")
    sys.stdout.writelines(differing)
    if differing:
        sys.exit("tables differ from their measurements: python results/tables.py --write")


def take(run: Path, study: Path, add: bool = False) -> None:
    """Copy a run's current measurements, packed, and its manifest without the names of folders.

    With `add` they join those that the study has of other networks; the run's count where both
    have a network. Runs whose networks cannot stand in one table end it with a sentence.
    """
    study.mkdir(parents=True, exist_ok=True)
    table = measured(run)
    manifest = json.loads((run / "manifest.json").read_text())
    root = manifest["study"]["dataset"]["root"]
    if root:
        manifest["study"]["dataset"]["root"] = Path(root).name
    words = manifest["command"]
    if "--store" in words:
        place = words.index("--store")
        words = words[:place] + words[place + 2 :]
    manifest["command"] = without_folders(words)
    if request := manifest.get("request"):
        named = {name: without_folders(request[name]) for name in ("study", "networks")}
        manifest["request"] = request | named
    if add:
        table, manifest = joined(study, run, manifest)
    packed = parquet_of(table)
    manifest["measurements"] = hashlib.sha256(packed).hexdigest()
    if "state" in manifest:  # it says of itself what it must be
        manifest["digest"] = digest_of(manifest)
    (study / PARQUET).write_bytes(packed)
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    (study / "manifest.json").write_text(text + "\n")


def without_folders(words: Sequence[str]) -> list[str]:
    """Return words with the names of absolute paths alone."""
    return [Path(word).name if Path(word).is_absolute() else word for word in words]


def measured(study: Path) -> pd.DataFrame:
    """Return the measurements of a run or a study that its manifest counts."""
    store = StudyStore(study.parent, study.name)
    return current(store.measurements(), store.manifest())


def joined(study: Path, run: Path, manifest: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the measurements of a study and a run in one table, and a manifest of both."""
    kept = json.loads((study / "manifest.json").read_text())
    differ = [name for name in ("data", "training") if kept[name] != manifest[name]]
    shared = kept["conditions"].keys() & manifest["conditions"].keys()
    differ += [name for name in shared if kept["conditions"][name] != manifest["conditions"][name]]
    if differ:
        sys.exit(f"{run} and {study} differ in {min(differ)}: they cannot stand in one table")
    old, new = measured(study), measured(run)
    both = pd.concat([old[~old["subject"].isin(manifest["subjects"])], new])
    table = both.sort_values([*both], ignore_index=True, kind="stable")
    for name in ("subjects", "conditions"):
        manifest[name] = kept[name] | manifest[name]
    for name in ("alphas", "seeds"):
        manifest["study"][name] = sorted({*kept["study"][name], *manifest["study"][name]})
    return table, manifest


def write(study: Path) -> None:
    """Write the tables and the figures that a study has measurements for."""
    for name in TABLES:
        made = table(study, name)
        (study / name).unlink(missing_ok=True)
        if made:
            (study / name).write_text(made)
    for name in FIGURES:
        path = study / f"{name}.svg"
        path.unlink(missing_ok=True)
        place = str(study.relative_to(HERE.parent))
        try:
            sys.stdout.write(selbench("figure", name, place, "--output", str(path)))
        except RefusedError as refused:
            sys.stdout.write(str(refused))


def table(study: Path, name: str) -> str:
    """Return a table of a study; nothing of claims where it can test none."""
    try:
        return selbench(*TABLES[name], str(study.relative_to(HERE.parent)))
    except RefusedError:
        if not name.startswith("claims"):
            raise
        return ""


def differences(study: Path, name: str) -> list[str]:
    """Return how a committed table of a study differs from its measurements'."""
    path = study / name
    kept = path.read_text() if path.is_file() else ""
    return compared(kept, table(study, name), path, f"selbench {TABLES[name][0]}")


def compared(kept: str, made: str, path: Path, maker: str) -> list[str]:
    """Return the lines of a diff; none where both texts are equal."""
    lines = (text.splitlines(keepends=True) for text in (kept, made))
    return [*difflib.unified_diff(*lines, str(path), maker)]


def quoted(page: str) -> str:
    """Return a page with the tables that it quotes made again, without their headings."""

    def made(found: re.Match[str]) -> str:
        _, table = selbench(*shlex.split(found["words"])).split("\n", 1)
        return found[1] + table

    return QUOTED.sub(made, page)


def selbench(*words: str) -> str:
    """Run a command; return what it prints, or end with why it prints nothing."""
    said, complained = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["selbench", *words]),
        contextlib.chdir(HERE.parent),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            command()
        except SystemExit as ended:
            if ended.code:
                kind = RefusedError if ended.code == 2 else SystemExit
                raise kind(f"{shlex.join(words)}: {complained.getvalue()}") from ended
    return said.getvalue()


if __name__ == "__main__":
    main()
