"""`selbench claims`: from a store to verdicts, and the sentence for everything that cannot be."""

import json
import shlex
from html import unescape

import pytest

from selbench.store import Cell, Measurement, Result, StudyStore

SEEDS = (0, 1, 2)
ALPHAS = (-1.0, 0.0, 1.0)

CLAIM = """\
[[claim]]
id = "mine"
sentence = "Accuracy falls with alpha."
source = "nowhere"
sure = "ours"
[[claim.tests]]
kind = "trend"
reading = { suite = "clean" }
between = [-1, 1]
direction = "down"
"""


def write(folder, study="study", alphas=ALPHAS, limit=None, command=(), **data):
    """Write a store in which accuracy falls, and selectivity rises, with alpha.

    `data`: what its manifest says of the data set besides its name.
    """
    store = StudyStore(folder, study)
    store.prepare()
    for alpha in alphas:
        for seed in SEEDS:
            subject = f"alpha={alpha:g} seed={seed}"
            facts = (1, "d", limit, subject, alpha, seed, "t", "resnet8", f"w{alpha}-{seed}")
            bump = 0.001 * seed
            accuracy = Measurement("accuracy", 0.9 - 0.05 * alpha + bump, 200)
            index = Measurement("selectivity_index", 0.4 + 0.1 * alpha + bump, 200)
            store.write(
                [
                    Result(Cell("clean", "clean", None, "", "original", *facts), [accuracy]),
                    Result(Cell("selectivity", "clean", None, "", "original", *facts), [index]),
                ]
            )
    subjects = {
        f"alpha={a:g} seed={s}": {"weights": f"w{a}-{s}", "diverged": False}
        for a in alphas
        for s in SEEDS
    }
    conditions = {name: ["original", 1, ""] for name in ("clean/clean", "selectivity/clean")}
    study_facts = {"model": {"name": "resnet8"}, "dataset": {"name": "digits"} | data}
    manifest = {"data": "d", "training": "t", "conditions": conditions, "subjects": subjects}
    store.finish(manifest | {"study": study_facts, "command": list(command)})


@pytest.fixture
def store(tmp_path):
    write(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(CLAIM)
    return path


def test_some_classes_are_not_the_data_set_that_claims_speak_of(tmp_path, selbench, mine):
    ours = 'sure = "ours"\n'
    mine.write_text(CLAIM.replace(ours, f'{ours}networks = ["resnet8/digits"]\n'))
    write(tmp_path / "runs", classes=5)
    (found,) = json.loads(selbench("claims", "--claims", mine, "--format", "json").out)
    assert found["network"] == "resnet8/digits, 5 classes"
    assert found["verdicts"][0]["network"] == "other"


@pytest.mark.parametrize(
    ("facts", "apart"),
    [
        ({"model": {"name": "resnet8", "options": {"shortcut": "B"}}}, ""),
        ({"model": {"name": "resnet8", "options": {"width": 64}}}, ", width=64"),
        ({"recipe": {"method": "augmix"}}, ", trained with augmix"),
    ],
)
def test_neither_is_another_width_or_training(facts, apart, tmp_path, selbench, mine):
    write(tmp_path / "runs")
    path = tmp_path / "runs/study/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["study"] |= facts
    del manifest["state"], manifest["digest"]  # as of an earlier version
    path.write_text(json.dumps(manifest))
    (found,) = json.loads(selbench("claims", "--claims", mine, "--format", "json").out)
    assert found["network"] == f"resnet8/digits{apart}"


def test_the_papers_claims(store, selbench):
    ended = selbench("claims", "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    (found,) = json.loads(ended.out)
    assert (found["study"], found["network"]) == ("study", "resnet8/digits")
    verdicts = {each["id"]: each for each in found["verdicts"]}
    assert len(verdicts) == 39
    assert verdicts["A1"]["verdict"] == "transfers"
    assert verdicts["A1"]["network"] == "other"
    assert verdicts["A1"]["effect"]["networks"] == 6
    assert verdicts["A1"]["effect"]["per"] == "alpha"
    assert 0.9 < verdicts["A1"]["power"] <= 1
    assert verdicts["A1"]["images"] == 200
    assert verdicts["A1"]["published"].startswith("ResNet18: .154")
    assert verdicts["C1"]["verdict"] == "not tested"
    assert verdicts["C1"]["effect"] is None
    assert verdicts["C1"]["command"] == "selbench run study --suite attacks"
    families = {each["family"] for each in verdicts.values() if each["p"] is not None}
    assert families == {sum(each["p"] is not None for each in verdicts.values())}


def test_the_table(store, selbench, match):
    out = selbench("claims", "--claim", "A1,A2", "--claim", "C1").out
    match(r"A1 +transfers +Selectivity rises strictly", out)
    match(r"\+0\.1 per alpha \(", out)
    match(r"power 1\.00", out)
    match(r"\+5\.0 points", out)
    match(r"not tested: C1 \(attacks was not measured\)\n  selbench run study --suite attacks", out)
    assert "published: +2.0 points" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.soak
def test_the_same_store_gives_the_same_bytes(store, selbench):
    for words in (["--format", "json"], ["--format", "md", "--claim", "A1,A2,C1"]):
        first = selbench("claims", *words).out
        assert first == selbench("claims", "study", "--store", "runs", *words).out


def test_all_studies_or_one(store, selbench):
    write(store, "second")
    both = json.loads(selbench("claims", "--format", "json").out)
    assert [each["study"] for each in both] == ["second", "study"]
    one = json.loads(selbench("claims", "second", "--format", "json").out)
    assert one == both[:1]


def test_claims_of_the_users(store, mine, selbench):
    ended = selbench("claims", "--claims", mine, "--format", "json")
    ((found,),) = [study["verdicts"] for study in json.loads(ended.out)]
    assert (found["id"], found["verdict"], found["network"]) == ("mine", "supported", "own")
    assert found["tests"][0]["between"] == [-1, 1]


def test_names_are_text(store, mine, edit, selbench):
    sentence = "A |pipe|, <script>alert(1)</script>, `code` and [a](b) *star* a_b"
    edit(mine, "Accuracy falls with alpha.", sentence)
    out = selbench("claims", "--claims", mine, "--format", "md").out
    assert not {"<", ">"} & set(out)
    line = next(line for line in out.splitlines() if line.startswith("| mine"))
    cells = line.replace("\\|", "\0").split("|")
    assert len(cells) == 10
    shown = cells[2].replace("\0", "|")
    for mark in "`*_[]":
        assert f"\\{mark}" in shown
        shown = shown.replace(f"\\{mark}", mark)
    assert unescape(shown).strip() == f"{sentence} (nowhere; ours)"
    plain = selbench("claims", "--claims", mine).out
    assert "<script>alert(1)</script>" in " ".join(plain.split())
    (found,) = json.loads(selbench("claims", "--claims", mine, "--format", "json").out)
    assert found["verdicts"][0]["sentence"] == sentence


def test_every_claim_has_its_number_of_images(store, selbench, mine):
    mine.write_text(CLAIM.replace("[-1, 1]", "[-2, 0]"))
    write(store, alphas=(-2.0, *ALPHAS), limit=100)  # of all images there is no alpha = -2
    words = ("claims", "--claims", mine, "--format", "json")
    found = [json.loads(selbench(*words, *limit).out) for limit in ((), ("--limit", "100"))]
    assert found[0] == found[1]
    assert found[0][0]["verdicts"][0]["effect"]["networks"] == 9


def test_commands_can_be_pasted(tmp_path, selbench):
    folder = tmp_path / "my runs; rm x"
    write(folder, limit=200, command=["run", "-q", "sub/study.toml", "--limit", "200"])
    out = selbench("claims", "--store", folder, "--claim", "A1,C1", "--format", "json").out
    command = json.loads(out)[0]["verdicts"][1]["command"]
    expected = "selbench run sub/study.toml --suite attacks --limit 200 --store"
    assert command == f"{expected} '{folder}'"


@pytest.mark.parametrize("given", [["--data", "my images"], ["--data=my images"]])
def test_commands_name_the_images_and_so_does_the_star(
    given, tmp_path, selbench, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "elsewhere" / "my images"
    command = ["run", "mine/study.toml", *given, "--quiet"]
    write(tmp_path / "runs", command=command, name="folder", root=str(images))
    (found,) = json.loads(selbench("claims", "--claim", "A1,C1", "--format", "json").out)
    assert found["network"] == "resnet8/folder my images"
    words = shlex.split(found["verdicts"][1]["command"])
    assert words == ["selbench", "run", "mine/study.toml", *given, "--suite", "attacks"]
    again = shlex.join([*words[:-2], "--limit", "7"])
    assert f"make them with `{again}`" in refused("leaderboard", "--limit", "7")


def test_an_empty_store(refused):
    assert refused("claims") == (
        "there are no results in runs; make some with `selbench run`, or give --store"
    )


def test_nothing_that_can_be_tested(store, refused):
    assert refused("claims", "--claim", "C1,D1") == (
        "none of 2 claims can be tested on the study study; run "
        "`selbench run study --suite attacks --suite dimensionality` first"
    )
    assert refused("claims", "--claim", "A4").endswith("--suite clean --alpha -100,-10,-5` first")
    assert refused("claims", "--claim", "D4") == (
        "claim D4 cannot be tested on the study study: representation was not measured; run "
        "`selbench run study --suite dimensionality` first"
    )


def test_an_unknown_claim_study_or_format(store, mine, refused):
    assert refused("claims", "--claim", "B1,B9").startswith("unknown claim 'B9'; known are A1, A2")
    near = refused("claims", "--claims", mine, "--claim", "mime")
    assert near == "unknown claim 'mime'; did you mean 'mine'?"
    assert "unknown study in the store runs 'stuby'; did you mean 'study'?" in refused(
        "claims", "stuby"
    )
    assert refused("claims", "--format", "jsom") == "unknown format 'jsom'; did you mean 'json'?"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("between", "betwen", "unknown key 'betwen'; did you mean 'between'?"),
        (
            'suite = "clean"',
            'suite = "clean", metrik = "a"',
            "unknown key 'metrik'; did you mean 'metric'?",
        ),
        ("sure =", "sura =", "unknown key 'sura'; did you mean 'sure'?"),
        ('"trend"', '"trent"', "unknown kind of test 'trent'; did you mean 'trend'?"),
        ('kind = "trend"\n', "", "the key kind is missing"),
        ('direction = "down"\n', "", "the key direction is missing"),
        ("[-1, 1]", "[1, -1]", "tests.0.between: needs the lower alpha first, then the higher one"),
        ("[-1, 1]", "[1, 1]", "tests.0.between: needs two different alphas for a trend"),
        ('"down"', '"sideways"', "tests.0.direction: input should be 'up' or 'down'"),
        (
            '"clean"',
            '"corruption"',
            "tests.0.reading.suite: unknown suite of measurements 'corruption'; did you mean "
            "'corruptions'?",
        ),
        (
            '"ours"',
            '"ours"\nnote = "a\\u001b[2J"',
            "note: must be one line of printable characters",
        ),
        (
            '"trend"',
            '"no_trend"',
            "tests.0: needs a margin, or one for each of the scales",
        ),
        (
            'suite = "clean"',
            'suite = "clean", to_clean = "odds"',
            "tests.0.reading.to_clean: input should be 'ratio', 'log odds' or 'points'",
        ),
        (
            'kind = "trend"',
            'kind = "difference"\nchoose = { reading = { suite = "clean" }, rule = "highest" }',
            "tests.0: needs either between or choose",
        ),
        (
            'kind = "trend"\nreading = { suite = "clean" }\nbetween = [-1, 1]',
            'kind = "difference"\nreading = { suite = "clean" }\n'
            'choose = { reading = { suite = "clean" }, rule = "highest" }',
            "tests.0: must choose the alpha by another reading than the tested one",
        ),
        (
            'kind = "trend"\nreading = { suite = "clean" }\nbetween = [-1, 1]',
            'kind = "difference"\nreading = { suite = "clean" }\n'
            'choose = { reading = { suite = "corruptions" }, rule = "share" }',
            'tests.0.choose: share belongs to rule = "share", which needs it',
        ),
        (
            'kind = "trend"\nreading = { suite = "clean" }\nbetween = [-1, 1]',
            'kind = "difference"\nreading = { suite = "clean" }\nbetween = [0, 0]',
            "tests.0: compares alphas with alpha = 0: between must contain another alpha",
        ),
        (
            'kind = "trend"',
            'kind = "within"\nless = { suite = "clean" }',
            "tests.0: needs two different readings",
        ),
    ],
)
def test_a_claim_that_cannot_be(store, mine, edit, refused, old, new, sentence):
    edit(mine, old, new)
    assert refused("claims", "--claims", mine) == f"{mine}: claim mine: {sentence}"


def test_a_file_that_cannot_be(store, mine, tmp_path, refused):
    assert refused("claims", "--claims", "none.toml") == (
        "cannot read none.toml: No such file or directory"
    )
    mine.write_text("[[claim")
    assert refused("claims", "--claims", mine).startswith(f"{mine} is not valid TOML: ")
    mine.write_bytes(b"\xff")
    assert refused("claims", "--claims", mine).startswith(f"{mine} is not valid TOML: ")
    mine.write_text("")
    assert refused("claims", "--claims", mine) == f"{mine}: the key claim is missing"
    mine.write_text("claim = 1")
    assert refused("claims", "--claims", mine).startswith(f"{mine}: claim: input should be")
    mine.write_text("claim = []")
    assert refused("claims", "--claims", mine).startswith(f"{mine}: claim: ")
    mine.write_text("claims = 1")
    assert refused("claims", "--claims", mine) == (
        f"{mine}: unknown key 'claims'; did you mean 'claim'?"
    )
    mine.write_text(CLAIM + CLAIM)
    assert refused("claims", "--claims", mine) == f"{mine}: the id mine is used for 2 claims"
