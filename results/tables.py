"""Derive the tables of every folder here from its measurements, or check that they are those.

python results/tables.py                    # compare; exit code 1 and a diff where one differs
python results/tables.py --write            # write them anew, with the figures
python results/tables.py --from runs/digits # take a run's measurements, and write its tables
"""

import argparse
import contextlib
import difflib
import gzip
import json
import shlex
import sys
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from selbench.cli import main as command

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
FIGURES = (
    "tradeoff",
    "tradeoff-relative",
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


def main() -> None:
    """Compare the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--from", dest="run", type=Path)
    asked = parser.parse_args()
    if asked.run:
        take(asked.run, HERE / asked.run.name)
        for name, words in OF_A_RUN.items():
            made = selbench(*words, str(asked.run.absolute()))
            (HERE / asked.run.name / name).write_text(made)
    studies = sorted(path.parent for path in HERE.glob("*/manifest.json"))
    if asked.write or asked.run:
        for study in [HERE / asked.run.name] if asked.run else studies:
            write(study)
        return
    if not studies:
        sys.exit("there is no results/*/manifest.json to check")
    differing = [line for study in studies for line in differences(study)]
    sys.stdout.writelines(differing)
    if differing:
        sys.exit("tables differ from their measurements: python results/tables.py --write")


def take(run: Path, study: Path) -> None:
    """Copy a run's measurements, packed, and its manifest without the names of folders."""
    study.mkdir(exist_ok=True)
    packed = gzip.compress((run / "measurements.csv").read_bytes(), mtime=0)
    (study / "measurements.csv.gz").write_bytes(packed)
    manifest = json.loads((run / "manifest.json").read_text())
    root = manifest["study"]["dataset"]["root"]
    if root:
        manifest["study"]["dataset"]["root"] = Path(root).name
    words = manifest["command"]
    if "--store" in words:
        place = words.index("--store")
        words = words[:place] + words[place + 2 :]
    manifest["command"] = [Path(w).name if Path(w).is_absolute() else w for w in words]
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    (study / "manifest.json").write_text(text + "\n")


def write(study: Path) -> None:
    """Write a study's tables, and the figures that it has measurements for."""
    for name, words in TABLES.items():
        (study / name).write_text(selbench(*words, str(study.relative_to(HERE.parent))))
    for name in FIGURES:
        for suffix in (".svg", ".png"):
            path = study / f"{name}{suffix}"
            path.unlink(missing_ok=True)
            drawn = selbench(
                "figure", name, str(study.relative_to(HERE.parent)), "--output", str(path), lacks=2
            )
            sys.stdout.write(drawn)


def differences(study: Path) -> list[str]:
    """Return how the committed tables of a study differ from its measurements'."""
    lines = []
    for name, words in TABLES.items():
        path = study / name
        kept = path.read_text().splitlines(keepends=True) if path.is_file() else []
        made = selbench(*words, str(study.relative_to(HERE.parent))).splitlines(keepends=True)
        lines += difflib.unified_diff(kept, made, str(path), f"selbench {words[0]}")
    return lines


def selbench(*words: str, lacks: int = 0) -> str:
    """Run a command; return what it prints, and why it cannot where it exits with `lacks`."""
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
            if ended.code not in (None, 0, lacks):
                raise SystemExit(f"{shlex.join(words)}: {complained.getvalue()}") from ended
    return said.getvalue() or complained.getvalue()


if __name__ == "__main__":
    main()
