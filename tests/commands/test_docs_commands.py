"""The commands that the documentation shows run, one after another, as a reader would type them."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r'^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S
)
SLOW = ("tutorial.md", "howto/reproduce-the-papers.md", "howto/my-network.md")
SLOW += ("howto/gate-a-release.md", "howto/my-images.md")


def blocks(page):
    return [each.groupdict() for each in BLOCK.finditer((DOCS / page).read_text())]


def type_in(page, selbench):
    """Write the files of a page, and run its commands; return what each printed."""
    for each in blocks(page):
        if each["title"]:
            Path(each["title"]).write_text(each["text"])
    lines = [
        line
        for each in blocks(page)
        if each["kind"] == "console"
        for line in each["text"].splitlines()
    ]
    for line in lines:
        if not line.startswith("$ "):
            continue
        expected = int(line.partition("# exit code ")[2] or 0)
        program, *words = shlex.split(line[2:], comments=True)
        if program == "python":
            subprocess.run([sys.executable, *words], check=True)
            continue
        assert program == "selbench"
        ended = selbench(*words)
        assert ended.code == expected, f"{line}\n{ended.err}"
        yield line, ended


def heads(text):
    """Return what tables begin with: words without numbers of one CPU."""
    return [
        line.strip() for line in text.splitlines() if "%" in line and not re.search(r"\d", line)
    ]


def shown(page):
    return [h for each in blocks(page) if each["kind"] == "console" for h in heads(each["text"])]


def works(page, selbench):
    printed = [head for _, ended in type_in(page, selbench) for head in heads(ended.out)]
    missing = [
        head
        for head in shown(page)
        if " ".join(head.split()) not in {" ".join(p.split()) for p in printed}
    ]
    assert not missing, printed


def test_my_images_are_looked_at(selbench, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda words, **_: runpy.run_path(words[1]))  # quicker
    made, shown = "python photos.py", "sheet.png shows 3 corruptions of photos/\n"
    assert made in (DOCS / "howto" / "my-images.md").read_text()
    assert next(type_in("howto/my-images.md", selbench))[1].out == shown


@pytest.mark.soak
@pytest.mark.parametrize("page", SLOW)
def test_pages_that_take_longer(page, selbench):
    if "results/" in (DOCS / page).read_text():
        Path("results").symlink_to(ROOT / "results")
    if page == "howto/gate-a-release.md":
        for _ in type_in("howto/my-network.md", lambda *words: selbench("--version")):
            pass
    works(page, selbench)


def test_every_page_with_commands_is_tried():
    pages = {
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if "```console" in path.read_text()
    }
    assert pages == {*SLOW}


@pytest.mark.soak
def test_pages_made_of_the_code_are_up_to_date():
    made = runpy.run_path(str(DOCS / "_site" / "generate.py"))["PAGES"]
    for name, text in made.items():
        assert (DOCS / "reference" / name).read_text() == text(), "python docs/_site/generate.py"


def test_the_readme_keeps_its_promises():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "    pip install tox && tox " in text  # what .ci/run does
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert [each for each in targets if "://" not in each and not (ROOT / each).exists()] == []


@pytest.mark.soak
def test_the_notebook_runs_from_a_checkpoint_to_a_figure(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads((DOCS / "notebooks" / "is-my-network-robust.ipynb").read_text())
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert Path("digits.pt").exists()
    assert len(names["table"]) == 5
    assert names["axis"].get_lines()
