"""`selbench baseline` and `selbench check`, from the command line to the exit code."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from corruptions import CORRUPTIONS
from selbench import suites
from selbench.regression.baseline import read_baseline, write_baseline
from selbench.regression.comparison import MEAN

pytestmark = [pytest.mark.long(15), pytest.mark.usefixtures("few_conditions")]


@pytest.fixture(autouse=True)
def _not_on_github(monkeypatch):
    """Keep the tests' own job on GitHub out of their output."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture(scope="module")
def kept():
    """Keep what the command wrote for the first test; it is the same for the others."""
    return {}


@pytest.fixture
def recorded(selbench, tiny_study, checkpoint, kept):
    """Write a baseline of a checkpoint; return the words that name both."""
    words, baseline = (tiny_study, "--checkpoint", checkpoint(), "-q"), Path("baseline.json")
    if "baseline" in kept:
        baseline.write_bytes(kept["baseline"])
        return words
    ended = selbench("baseline", *words, "--suite", "corruptions")
    assert ended.code == 0, ended.err
    kept["baseline"] = baseline.read_bytes()
    return words


def test_a_baseline_records_every_condition_and_example(recorded):
    baseline = read_baseline(Path("baseline.json"))
    assert {name: bits.shape for name, bits in baseline.correct().items()} == {
        "clean/clean": (1, 18),
        "corruptions/brightness/1": (1, 18),
        "corruptions/brightness/5": (1, 18),
        "corruptions/gaussian_noise/1": (1, 18),
        "corruptions/gaussian_noise/5": (1, 18),
    }
    assert baseline.subject == "net0.pt"
    assert baseline.study == "tiny"


def test_a_baseline_of_an_untrained_network_warns_of_chance(selbench, tiny_study, checkpoint):
    ended = selbench("baseline", tiny_study, "--checkpoint", checkpoint(), "-q")
    assert "accuracy is no more than chance in 1 of 1 condition, where" in ended.err
    assert ended.err.count("clean/clean") == 1


def test_a_baseline_names_no_folder_and_is_the_same_bytes(selbench, recorded, tmp_path):
    assert str(tmp_path) not in Path("baseline.json").read_text()
    selbench("baseline", *recorded, "--suite", "corruptions", "-o", "again.json")
    assert Path("again.json").read_bytes() == Path("baseline.json").read_bytes()


def test_a_baseline_knows_the_outcomes_of_run(selbench, tiny_study):
    selbench("run", tiny_study, "--alpha", "0", "-q")
    selbench("baseline", tiny_study, "--subject", "alpha=0", "-q")
    kept = pd.read_csv("runs/tiny/measurements.csv")
    (clean,) = read_baseline(Path("baseline.json")).correct().values()
    assert kept[kept["metric"] == "accuracy"]["value"].item() == clean.mean()


@pytest.fixture
def nothing_is_evaluated(monkeypatch):
    """Return a function after which every condition that is evaluated fails the test."""
    return lambda: monkeypatch.setattr(suites.Condition, "run", lambda *_: pytest.fail("it runs"))


def test_an_interrupted_check_resumes_from_its_store(selbench, recorded, nothing_is_evaluated):
    words = ("check", *recorded, "--store", "kept", "--format", "json")
    first = selbench(*words)
    assert first.code == 0, first.err
    nothing_is_evaluated()
    assert selbench(*words).out == first.out


@pytest.mark.soak
def test_the_manifest_of_a_checks_store_says_how_it_ended(selbench, recorded, monkeypatch):
    def state():
        return json.loads(Path("kept/tiny/manifest.json").read_text())["state"]

    def interrupted(*_):
        raise KeyboardInterrupt

    words = ("check", *recorded, "--store", "kept")
    with monkeypatch.context() as patched:
        patched.setattr(suites.Condition, "run", interrupted)
        assert selbench(*words).code == 130
    assert state() == "running"
    assert selbench(*words).code == 0
    assert state() == "complete"
    assert selbench("verify", "kept").code == 0
    before = Path("kept/tiny/manifest.json").read_bytes()
    assert selbench(*words).code == 0
    assert Path("kept/tiny/manifest.json").read_bytes() == before
    shown = selbench("leaderboard", "--store", "kept")
    assert (shown.code, shown.err) == (0, "")


def test_a_baseline_takes_from_a_store_what_a_run_measured(
    selbench, tiny_study, nothing_is_evaluated
):
    words = (tiny_study, "--suite", "corruptions", "-q")
    assert selbench("run", *words, "--alpha", "0").code == 0
    selbench("baseline", *words, "--subject", "alpha=0", "-o", "alone.json")
    before = selbench("leaderboard").out
    nothing_is_evaluated()
    selbench("baseline", *words, "--subject", "alpha=0", "--store", "runs", "-o", "kept.json")
    assert Path("kept.json").read_bytes() == Path("alone.json").read_bytes()
    assert selbench("leaderboard").out == before


def test_the_same_model_passes(selbench, recorded):
    ended = selbench("check", *recorded)
    assert ended.code == 0
    assert "no drop above 1.0 points is shown in 5 conditions on 18 examples" in ended.out


def test_a_worse_model_fails_and_says_how(selbench, recorded, perfect, tmp_path):
    perfect(Path("baseline.json"))
    ended = selbench("check", *recorded, "--junit", "out/junit.xml")
    assert ended.code == 1
    assert "got worse in mean of 4 conditions: -" in " ".join(ended.out.split())
    assert "<failure" in Path("out/junit.xml").read_text()
    assert selbench("check", *recorded, "--tolerance", "0.9").code == 0


def test_json_is_all_of_the_output(selbench, recorded, perfect, monkeypatch):
    perfect(Path("baseline.json"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ended = selbench("check", *recorded, "--format", "json")
    assert ended.code == 1
    assert json.loads(ended.out)["failed"]
    assert ended.err.startswith("::error title=selbench check::")


def test_on_github_annotations_and_a_summary_are_added(selbench, recorded, perfect, monkeypatch):
    perfect(Path("baseline.json"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    ended = selbench("check", *recorded)
    assert "::error title=selbench check::mean of 4 conditions" in ended.out
    assert "robustness got worse" in Path("summary.md").read_text()


def test_annotations_alone_can_be_asked_for(selbench, recorded):
    ended = selbench("check", *recorded, "--format", "github")
    assert ended.out.startswith("::notice title=selbench check::")
    assert ended.out.count("\n") == 1


@pytest.mark.soak
def test_trained_seeds_are_one_model(selbench, tiny_study):
    words = (tiny_study, "--subject", "alpha=0", "-q")
    ended = selbench("baseline", *words, "--seed", "0,1", "--suite", "corruptions")
    assert "records alpha=0 (2 networks) in 5 conditions on 18 examples" in ended.out
    ended = selbench("check", tiny_study, "--seed", "0", "-q", "--format", "json")
    value = json.loads(ended.out)
    assert ended.code == 0
    assert value["subject"] == "alpha=0"
    assert value["networks"] == {"baseline": 2, "now": 1}
    assert value["over_seeds"]


@pytest.mark.soak
def test_a_check_takes_the_seeds_of_a_baseline_of_several(selbench, tiny_study, monkeypatch):
    words = (tiny_study, "--subject", "alpha=0", "-q")
    selbench("baseline", *words, "--seed", "0,1")
    several = json.loads(selbench("check", *words, "--format", "json").out)
    assert several["networks"] == {"baseline": 2, "now": 2}
    assert [change["difference"] for change in several["changes"]] == [0]
    selbench("baseline", *words, "--seed", "1")
    asked = []
    monkeypatch.setattr("selbench.session.Session.train", lambda s: asked.extend(s.study.seeds))
    selbench("check", *words)  # the study's, which tell how much seeds differ
    assert asked == [0]


def test_a_check_that_could_not_have_seen_fails_and_says_so(selbench, recorded):
    words = ("check", *recorded, "--detect", "20", "--junit", "j.xml")
    ended = selbench(*words)
    assert ended.code == 1
    said = " ".join(ended.out.split())
    assert "net0.pt: the check could not have seen a drop of 20 points in 5 conditions on " in said
    assert "18 examples: a true drop of the mean by " in said
    assert "use more test images, in the baseline too" in said
    assert 'failures="1"' in Path("j.xml").read_text()
    value = json.loads(selbench(*words, "--format", "json").out)
    assert value["failed"]
    assert value["detect"] == 0.2
    assert value["detectable"] > 0.2
    assert selbench("check", *recorded, "--detect", "90").code == 0
    github = selbench(*words, "--format", "github").out
    assert github.startswith("::error title=selbench check::net0.pt: the check could not have")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detect", "0"], "--detect is a drop in points such as 3, above 0, got 0.0"),
        (["--detect", "nan"], "--detect is a drop in points such as 3, above 0, got nan"),
        (
            ["--detect", "3", "--tolerance", "0.05"],
            "--detect 3 asks for a drop of 3 points, and --tolerance 0.05 accepts 5 points; detect "
            "more, or tolerate less",
        ),
    ],
)
def test_a_drop_that_no_check_detects_is_refused(refused, tiny_study, words, message):
    assert refused("check", tiny_study, *words) == message


def test_fewer_examples_and_conditions_are_a_part_of_the_baseline(selbench, recorded):
    words = ("check", *recorded, "--format", "json")
    part = json.loads(selbench(*words, "--suite", "clean", "--limit", "9").out)
    assert part["examples"] == 9
    assert [change["name"] for change in part["changes"]] == ["clean/clean"]
    assert part["changes"][0]["difference"] == 0
    short = json.loads(selbench(*words, "--budget", "1s").out)
    assert [change["difference"] for change in short["changes"]] == [0] * 6


def test_a_limit_beyond_the_images_is_all_of_them(selbench, recorded):
    assert selbench("check", *recorded, "--limit", "100").code == 0


# What the user can mend.


def test_several_subjects_are_named(refused, tiny_study):
    expected = "the study has several subjects (alpha=0, alpha=1); name one with --subject"
    assert refused("baseline", tiny_study, "-q") == expected


@pytest.mark.soak
def test_a_baseline_of_some_corruptions_is_compared_on_these(selbench, refused, recorded, perfect):
    some = ("--suite", "clean", "--suite", "corruptions", "--corruption", "brightness")
    assert selbench("baseline", *recorded, *some, "-o", "some.json").code == 0
    made = read_baseline(Path("some.json"))
    names = {"clean/clean", "corruptions/brightness/1", "corruptions/brightness/5"}
    assert set(made.conditions) == names
    assert made.corruptions == ("brightness",)

    def compared(*words):
        ended = selbench("check", *recorded, *words, "--format", "json")
        assert ended.code == 0, ended.err
        found = {each["name"] for each in json.loads(ended.out)["changes"]}
        return found - {MEAN}

    assert compared("--baseline", "some.json") == names
    assert compared("--baseline", "some.json", "--suite", "clean") == {"clean/clean"}
    assert compared("--corruption", "brightness") == names
    assert compared("--baseline", "some.json", "--corruption", "brightness") == names
    noise = ("--corruption", "gaussian_noise")
    sentence = refused("check", *recorded, "--baseline", "some.json", *noise)
    assert "the baseline holds only brightness, not gaussian_noise; make it with all" in sentence
    sentence = refused("check", *recorded, "--baseline", "some.json", "--corruption", "fogg")
    assert "unknown corruption 'fogg'" in sentence
    sentence = refused("baseline", *recorded, "--suite", "clean", *noise)
    assert "gaussian_noise is not in the suite clean; add --suite corruptions" in sentence


def test_an_unknown_subject_is_refused(refused, tiny_study):
    sentence = refused("baseline", tiny_study, "--subject", "alpha=2", "-q")
    assert sentence == "unknown subject 'alpha=2'; did you mean 'alpha=1'?"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--subject", "alpha=0"), "--subject names an alpha of the study; leave out either it or"),
        (("--seed", "0"), "--alpha and --seed are for training, --checkpoint is not; leave out"),
    ],
)
def test_a_checkpoint_is_not_trained(refused, tiny_study, checkpoint, option, message):
    sentence = refused("baseline", tiny_study, "--checkpoint", checkpoint(), *option)
    assert sentence.startswith(message)


@pytest.mark.parametrize("tolerance", ["-0.1", "1", "nan", "5"])
def test_a_tolerance_out_of_range_is_refused(refused, tiny_study, tolerance):
    sentence = refused("check", tiny_study, "--tolerance", tolerance)
    assert sentence.startswith("--tolerance is a fraction of 1 such as 0.01 for one point, got ")


def test_an_unknown_format_is_refused(refused, tiny_study):
    assert "unknown format 'xml'" in refused("check", tiny_study, "--format", "xml")


def test_a_missing_baseline_is_refused(refused, tiny_study):
    words = (tiny_study, "--alpha", "0")
    network = ("--model", "torchvision:resnet18", "--input-size", "64", "--dataset", "digits")
    for given, said in ((words, shlex.join(map(str, words))), (network, shlex.join(network))):
        pattern = r"there is no baseline baseline.json; make it with `selbench baseline (.*)`"
        named = shlex.split(re.fullmatch(pattern, refused("check", *given)).group(1))
        assert sorted(named) == sorted([*shlex.split(said), "-o", "baseline.json"])


def test_another_data_set_is_refused_and_both_are_named(refused, recorded, image_tree, tmp_path):
    other = image_tree("other", test=5)
    sentence = refused("check", *recorded, "--data", other)
    checksum = read_baseline(Path("baseline.json")).data
    assert sentence.startswith(f"the baseline is of folder images (checksum {checksum}, 18 ")
    assert "this is folder other (checksum" in sentence
    assert "15 images)" in sentence


def test_more_examples_than_recorded_are_refused(selbench, refused, recorded):
    selbench("baseline", *recorded, "--suite", "clean", "--limit", "9")
    sentence = refused("check", *recorded, "--limit", "12")
    expected = "the baseline holds 9 examples, --limit asks for 12; ask for at most 9"
    assert sentence == expected


def test_a_suite_that_was_not_recorded_is_refused(refused, recorded):
    sentence = refused("check", *recorded, "--suite", "attacks")
    expected = "the baseline holds the suites corruptions, not attacks; make it with "
    assert sentence == expected + "--suite attacks"


def test_the_suite_that_lacks_is_named_beside_one_that_is_held(refused, recorded):
    sentence = refused("check", *recorded, "--suite", "clean", "--suite", "attacks")
    assert sentence.startswith("the baseline holds the suites corruptions, not attacks; make it")


@pytest.mark.parametrize("command", ["baseline", "check"])
@pytest.mark.parametrize("others", [(), ("--suite", "clean")])
def test_a_suite_without_outcomes_is_refused(refused, recorded, command, others):
    sentence = refused(command, *recorded, *others, "--suite", "jacobian")
    assert sentence.startswith("the suite jacobian has no outcomes per example")


@pytest.mark.parametrize("words", [("--suite", "jacobian"), ("--limit", "1")])
def test_nothing_is_trained_for_what_is_refused(refused, tiny_study, monkeypatch, words):
    monkeypatch.setattr("selbench.session.Session.train", lambda _: pytest.fail("it trains"))
    refused("baseline", tiny_study, "--subject", "alpha=0", "-q", *words)


@pytest.mark.parametrize("command", ["baseline", "check"])
@pytest.mark.sample
def test_the_same_checkpoint_twice_is_refused(refused, recorded, checkpoint, command):
    sentence = refused(command, *recorded, "--checkpoint", checkpoint())
    assert sentence.endswith("net0.pt is named twice; name each network once")
    sentence = refused(command, *recorded, "--checkpoint", checkpoint(0, "copy.pt"))
    assert sentence == "net0.pt is there twice (as copy.pt too); name each network once"


def test_a_condition_that_is_made_otherwise_is_refused(refused, recorded, monkeypatch):
    newer = {**suites.corrupted.CORRUPTIONS}
    version = newer["brightness"].version
    newer["brightness"] = replace(newer["brightness"], version=version + 1)
    monkeypatch.setattr(suites.corrupted, "CORRUPTIONS", newer)
    sentence = refused("check", *recorded)
    assert sentence.startswith(
        f"corruptions/brightness/1 is version {version} (generated) in the baseline (selbench "
    )
    assert f"and version {version + 1} (generated) in this version or setting" in sentence


@pytest.mark.parametrize("name", ["brightness", "fog"])
def test_a_condition_that_came_or_went_is_refused(refused, recorded, monkeypatch, name):
    others = {each: CORRUPTIONS[each] for each in {"gaussian_noise", "brightness"} ^ {name}}
    monkeypatch.setattr(suites.corrupted, "CORRUPTIONS", others)
    sentence = refused("check", *recorded)
    assert sentence.startswith(f"corruptions/{name}/1 is ")
    assert "none in" in sentence or "and none in" in sentence


def test_a_damaged_baseline_is_refused(refused, recorded):
    path = Path("baseline.json")
    path.write_text(path.read_text().replace('"alpha', '"beta', 1)[:-20])
    assert "baseline.json is damaged (it is not JSON)" in refused("check", *recorded)


@pytest.mark.parametrize("command", ["baseline", "check"])
def test_one_image_is_too_few(command, refused, recorded):
    message = "a comparison needs at least 2 test images; give --limit 2 or more"
    assert refused(command, *recorded, "--limit", "1") == message


def test_too_short_a_budget_is_refused_with_one_that_is_enough(selbench, refused, recorded):
    sentence = refused("check", *recorded, "--budget", "0.0001s")
    assert sentence.startswith("--budget 0.0001s is too short for 18 examples under")
    assert selbench("check", *recorded, "--budget", sentence.rpartition(" ")[2]).code == 0


@pytest.mark.soak
def test_names_of_files_are_text(selbench, tiny_study, checkpoint):
    words = (tiny_study, "--checkpoint", checkpoint(0, "<script>[bold]|.pt"), "-q")
    selbench("baseline", *words)
    assert "<script>[bold]|.pt" in selbench("check", *words).out
    baseline = read_baseline(Path("baseline.json"))
    write_baseline(baseline.model_copy(update={"dataset": "<b>"}), Path("baseline.json"))
    assert selbench("check", *words).code == 0


NETWORK = """
import torch

def make(seed):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32, 3),
    )
    return net.eval()

def one():
    return make(1)

def other():
    return make(2)
"""


def test_a_network_of_any_origin_is_checked_by_the_options_of_run(selbench, tiny_study):
    Path("nets.py").write_text(NETWORK)
    words = [tiny_study, "--model", "nets.py:one", "--suite", "corruptions", "-q"]
    made = selbench("baseline", *words, "--name", "ours")
    assert made.code == 0, made.err
    baseline = read_baseline(Path("baseline.json"))
    assert (baseline.subject, [each.name for each in baseline.networks]) == ("ours", ["ours"])
    equal = selbench("check", *words, "--format", "json")
    assert equal.code == 0, equal.err
    assert json.loads(equal.out)["subject"] == "nets.py:one"
    several = selbench("check", *words, "--model", "nets.py:other", "--name", "a", "--name", "b")
    assert several.code in (0, 1), several.err
    ran = selbench("run", *words, "--name", "ours", "--mean", "0.5,0.5,0.5")
    assert ran.code == 0, ran.err
    rows = pd.read_csv("runs/tiny/measurements.csv")
    assert set(rows["subject"]) == {"ours"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "a"], "--name describes a network that you bring; name it with --model"),
        (
            ["--model", "nets.py:one", "--name", "a", "--name", "b"],
            "there are 2 --name for 1 network; give one for each",
        ),
        (["--model", "nets.py:one", "--name", " "], "--name is empty"),
        (["--model", "nets.py:one", "--subject", "alpha=0"], "--subject names an alpha of the"),
        (
            ["--model", "nets.py:one", "--seed", "0"],
            "--alpha and --seed are for training, --model is not",
        ),
        (["--alpha", "0,1"], "a baseline covers one alpha; name one with --alpha"),
        (["--trained", "x", "--model", "nets.py:one"], "--trained uses a study's own networks"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_check_as_by_run(
    words, message, selbench, tiny_study
):
    Path("nets.py").write_text(NETWORK)
    ended = selbench("baseline", tiny_study, *words, "--suite", "clean", "-q")
    assert ended.code == 2
    assert message in " ".join(ended.err.split())


def test_a_folder_of_shifted_images_is_compared_on_its_own_images(selbench, tiny_study, checkpoint):
    names = sorted(path.name for path in Path("images/test").iterdir())
    for count, name in enumerate(names[:2], 1):
        for path in sorted((Path("images/test") / name).iterdir())[:count]:
            place = Path("old") / name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    words = (tiny_study, "--checkpoint", checkpoint(), "--suite", "corruptions", "--source", "old")
    assert selbench("baseline", *words, "-o", "b.json", "--quiet").code == 0
    conditions = json.loads(Path("b.json").read_text())["conditions"]
    assert conditions["shifted/old"]["examples"] == 3
    assert "examples" not in conditions["clean/clean"]
    ended = selbench("check", *words, "--baseline", "b.json", "--format", "json")
    assert ended.code == 0
    assert [each["name"] for each in json.loads(ended.out)["changes"]][-1] == "shifted/old"
    path = next(Path("old").rglob("*.*"))
    path.write_bytes(next(path for path in Path("images/train").rglob("*.*")).read_bytes())
    other = selbench("check", *words, "--baseline", "b.json")
    assert other.code == 2
    assert "shifted/old is version 1 (files (2 of" in other.err
