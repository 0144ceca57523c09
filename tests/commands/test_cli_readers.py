"""What every suite measures can be read by every command."""

from pathlib import Path

import pytest

from selbench.figures import FIGURES
from selbench.suites import SUITES

# Without several seeds no network has a probability of changes.
PROBABILITY = "holds no probabilities; run `selbench run"


pytestmark = pytest.mark.long(150)


@pytest.mark.usefixtures("few_probes")
@pytest.mark.filterwarnings("ignore:.* is the same for all:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.* is left out of probability:RuntimeWarning")
@pytest.mark.soak
def test_every_reader_takes_the_results_of_every_suite(selbench, tiny_study, edit, monkeypatch):
    edit(tiny_study, "epochs = 2", "epochs = 20")
    monkeypatch.setattr("selbench.suites.corrupted.SEVERITIES", (1, 5))
    monkeypatch.setattr("selbench.suites.representation.STEPS", 4)
    for suite in SUITES:
        assert selbench("run", tiny_study, "--suite", suite, "--limit", "9").code == 0, suite
    for command in ("leaderboard", "claims", "calibration"):
        for name in ("table", "md", "json"):
            assert selbench(command, "--format", name).code == 0, (command, name)
    for name in FIGURES:
        drawn = selbench("figure", name, "--output", f"{name}.svg")
        assert drawn.code == 0 or (name == "probability" and PROBABILITY in drawn.err), drawn.err
    assert selbench("verify").code == 0
    assert selbench("report", "--output", "site").code == 0
    pictures = {path.stem.removesuffix("-narrow") for path in Path("site/figures").glob("*.svg")}
    assert pictures == {*FIGURES} - {"probability"}
