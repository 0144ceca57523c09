"""Stores that are written here, a report, and a browser."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from made import write, write_digits

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def _selbench(*words):
    from selbench.commands.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["selbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


@pytest.fixture(scope="session")
def ran(shared_home, tmp_path_factory):
    """Write a store of six networks under fog and attacks, with adversarials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_HOME", str(shared_home))
        return write_digits(tmp_path_factory.mktemp("ran") / "runs")


@pytest.fixture(scope="session")
def site(ran, shared_home, tmp_path_factory):
    """Write its report."""
    folder = tmp_path_factory.mktemp("report") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_HOME", str(shared_home))
        _selbench("report", "--store", ran, "--output", folder)
    return folder


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a store of made-up accuracies, and returns its folder."""

    def write_store(name="study", **facts):
        return write(tmp_path / "runs", name, **facts).root

    return write_store


@pytest.fixture
def no_figures(monkeypatch):
    """Draw no figure and judge few claims, so that a report takes a moment."""
    from selbench.claims.sources import shipped_claims

    claims = shipped_claims()[::8]
    monkeypatch.setattr("selbench.report.drawings.FIGURES", {})
    monkeypatch.setattr("selbench.report.evidence.shipped_claims", lambda: claims)


@pytest.fixture
def few_figures(no_figures, monkeypatch):
    """Draw one figure and judge few claims."""
    from selbench.figures import FIGURES

    chosen = {"tradeoff-relative": FIGURES["tradeoff-relative"]}
    monkeypatch.setattr("selbench.report.drawings.FIGURES", chosen)


@pytest.fixture(scope="session")
def browser():
    """Start a headless Chromium, or skip."""
    named = os.environ.get("SELBENCH_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not path or not Path(path).is_file():
        pytest.skip("needs Chromium: install it, or set SELBENCH_CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "sync", "default-apps", "extensions")
    words = ["--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in quiet)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=words)
        yield browser
        browser.close()
