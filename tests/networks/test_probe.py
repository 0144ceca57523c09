"""The probe finds every planted habit, and nothing in honest networks."""

import json
from pathlib import Path

import pandas as pd
import pytest
from planted import (
    HABITS,
    IMAGENET,
    REFUSED,
    Around,
    Own,
    digits,
    normalised,
    trained,
    unrecorded,
)

import selbench as package
from selbench._kit.errors import SelbenchError
from selbench.networks.loading import network_of
from selbench.networks.network import Network
from selbench.networks.probe import habits_of, probe, probed
from selbench.pytest_plugin import assert_robust
from selbench.store import StudyStore
from selbench.store.findings import (
    ATTACKS,
    DRAWS,
    GRADIENTS,
    Finding,
    draw_name,
    finding_sentences,
    spoiling,
)
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS

pytestmark = pytest.mark.long(9)

PLANTED = [(code, n) for code, made in HABITS.items() for n in range(len(made))]
FIRST = [each for each in PLANTED if each[1] == 0]
REST = [pytest.param(*each, marks=pytest.mark.soak) for each in PLANTED if each not in FIRST]
RANDOM = "random"
FEW = {"suites": ["attacks"], "attacks": ["fgsm-linf", "pgd-l2"], "limit": 20}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr("selbench.suites.attacked.STEPS", 4)


def network(module, name="mine", weights="w"):
    module = module.eval().requires_grad_(False)
    return Network(name, None, None, "", "planted", weights, lambda: module)


def codes(module):
    return [each.code for each in habits_of(network(module), digits())]


@pytest.mark.parametrize(("code", "number"), [*FIRST, *REST])
def test_a_planted_habit_is_found_with_its_cure(code, number):
    found = habits_of(network(HABITS[code][number]()), digits())
    (own,) = [each for each in found if each.code == code]
    assert "; " in own.sentence or "with" in own.sentence  # what it does, and what to do


def test_there_are_forty():
    assert len(PLANTED) + len(REFUSED) >= 40


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_its_cure(name):
    make, cure = REFUSED[name]
    with pytest.raises(SelbenchError, match=cure):
        probe(make().eval(), digits(), name)


HONEST = {
    "trained": trained,
    "log-probabilities": lambda: Around(after=lambda z: z.log_softmax(1)),
    "clamped": lambda: Around(before=lambda x: x.clamp(0, 1)),
    "normalised": lambda: normalised("imagenet", **IMAGENET),
    "small": lambda: Around(after=lambda z: z / 1e4),
    "warm": lambda: Around(after=lambda z: 3 * z + 100),
}


@pytest.mark.parametrize("name", HONEST)
def test_nothing_is_found_of_honest_networks(name):
    assert not codes(HONEST[name]())


def test_nothing_is_found_of_a_straight_through_gradient():
    def rounded(x):
        return x + ((16 * x).round() / 16 - x).detach()

    assert not codes(Around(before=rounded))


def test_a_network_is_looked_at_once_for_its_weights(monkeypatch):
    looks = []
    monkeypatch.setattr(
        "selbench.networks.probe.habits_of", lambda each, _: looks.append(each) or ()
    )
    own = network_of(trained(), "mine", digits())
    for _ in range(2):
        package.evaluate(own.load(), digits(), "clean", store="runs", limit=20, name="mine")
    assert len(looks) == 1


def test_an_accuracy_that_is_meaningless_is_no_number_in_any_format():
    package.evaluate(trained(), digits(), store="runs", name="honest", **FEW)
    found = package.evaluate(Own(unrecorded), digits(), store="runs", name="hidden", **FEW)
    assert [each["code"] for each in found.attrs["findings"]] == ["no_gradients"]
    assert set(found.loc[found["metric"] == "accuracy", "condition"]) == {"clean"}
    store = StudyStore(Path("runs"), "digits-16")
    board = leaderboard(store)
    rows = board.table.set_index("subject")
    assert rows.loc["hidden", ["fgsm", "pgd_l2"]].isna().all()
    assert rows.loc["honest", ["fgsm", "pgd_l2"]].notna().all()
    for name, written in FORMATS.items():
        assert "has no gradient" in written([board]), name
    lines = FORMATS["md"]([board]).splitlines()
    (line,) = [row for row in lines if row.startswith("| hidden | 1 | -")]
    assert line.count(" - ") == 3  # FGSM, PGD, the median


def test_what_an_earlier_version_measured_is_not_shown():
    package.evaluate(trained(), digits(), store="runs", name="mine", **FEW)
    store = StudyStore(Path("runs"), "digits-16")
    manifest = store.manifest()
    weights = manifest["subjects"]["mine"]["weights"]
    finding = {"code": "no_gradients", "sentence": "has none; add some", "spoils": GRADIENTS}
    store.finish({**manifest, "findings": {weights: [finding]}})
    table = FORMATS["md"]([leaderboard(store)])
    assert "| mine | 1 | - | - | - |" in table
    assert "mine has none; add some (under attacks that follow gradients no number: -)." in table


def test_a_random_network_has_means_over_draws():
    module = HABITS[RANDOM][0]()
    found = package.evaluate(module, digits(), store="runs", name="mine", **FEW)
    clean = found[(found["metric"] == "accuracy") & (found["condition"] == "clean")]
    assert len(clean) == DRAWS
    (row,) = leaderboard(StudyStore(Path("runs"), "digits-16")).table.to_dict("records")
    assert (row["subject"], row["networks"]) == ("mine", 1)
    assert row["clean"] == pytest.approx(clean["value"].mean())
    assert row["clean_interval"] > 0
    assert pd.isna(row["fgsm"])


def test_a_random_network_has_accuracies_under_attacks_on_its_mean(monkeypatch):
    monkeypatch.setattr("selbench.attacks.averaged.CONFIRMING", 10)
    module, asked = HABITS[RANDOM][1](), {"limit": 10, "attacks": "fgsm-linf", "store": "runs"}
    for options in ({"eot": 2}, {}):
        found = package.evaluate(module, digits(), "attacks", name="mine", **asked, **options)
    assert not (found["condition"] == "fgsm-linf").any()
    text = FORMATS["md"]([leaderboard(StudyStore(Path("runs"), "digits-16"))])
    assert "under attacks no number without --eot: -" in text
    found = package.evaluate(module, digits(), "attacks", name="mine", eot=2, **asked)
    curve = found[found["metric"].eq("accuracy") & found["condition"].eq("fgsm-linf-eot")]
    assert len(curve) == DRAWS * 7
    means = curve.groupby("level")["value"].mean()
    assert means.iloc[-1] < means.iloc[0]
    (row,) = leaderboard(StudyStore(Path("runs"), "digits-16")).table.to_dict("records")
    assert row["fgsm_eot"] == pytest.approx(curve["value"].mean())
    assert pd.isna(row["fgsm"])


@pytest.mark.soak
def test_an_unlucky_draw_is_no_fall():
    module, data = HABITS[RANDOM][0](), digits()
    options = {"suites": "clean", "limit": 100}
    assert_robust(module, data, "b.json", update=True, **options)
    assert len(json.loads(Path("b.json").read_text())["networks"]) == DRAWS
    for _ in range(5):
        report = assert_robust(module, data, "b.json", tolerance=0, **options)
        assert not report.failed
        assert "other logits" in report.findings[0]


def test_a_check_of_meaningless_accuracies_is_refused():
    told = r"model 0 has no accuracy under fgsm-linf: it has no gradient"
    with pytest.raises(SelbenchError, match=told):
        assert_robust(Own(unrecorded), digits(), "b.json", update=True, suites="attacks", limit=20)


def test_quantised_networks_keep_attacks_without_gradients():
    (found,) = probed([network(Own(unrecorded))], digits())
    assert spoiling(found.findings, "pgd-linf")
    assert not spoiling(found.findings, "hopskipjump-l2")
    (found,) = probed([network(HABITS["batch"][0]())], digits())
    assert found.findings[0].spoils == ATTACKS
    assert spoiling(found.findings, "hopskipjump-l2")


def test_what_fails_on_more_images_is_found():
    def small(net, x):
        if len(x) > 2:
            raise ValueError("too many")
        return net(x)

    assert codes(Own(small)) == ["fails"]


def test_the_command_prints_findings(selbench):
    Path("networks.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(3, 10)\n"
        "    @torch.no_grad()\n"
        "    def forward(self, x):\n"
        "        return self.head(x.mean((2, 3)))\n"
    )
    done = selbench("probe", "networks.py:Net", "--quiet")
    assert done.code == 0
    assert "networks.py:Net has no gradient with respect to its images" in done.out
    assert not Path("runs").exists()


@pytest.mark.soak
def test_the_findings_of_the_studies_networks(selbench):
    """No network of the shipped study has a finding."""
    done = selbench("probe", "digits", "--seed", "0", "--quiet")
    assert done.code == 0
    assert all(line.endswith(": no finding") for line in done.out.splitlines())


def test_networks_with_one_finding_share_a_sentence():
    dead, loud = Finding("dead", "has dead outputs"), Finding("loud", "overflows", ATTACKS)
    found = {"a": [dead, loud], "b": [dead], "c": [loud], "d": [dead]}
    assert finding_sentences(found | {draw_name("d", 2): [dead]}) == [
        "each of a, b and d has dead outputs",
        "each of a and c overflows (under attacks no number: -)",
    ]
    assert finding_sentences({"a": [dead]}) == ["a has dead outputs"]
