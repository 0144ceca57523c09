"""Studies: what ships, what a file may say, and what is refused with which words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from selbench._kit.errors import SelbenchError
from selbench.datasets import DATASETS
from selbench.models import MODELS
from selbench.study import check_alphas, load_study, shipped_studies
from selbench.suites import SUITES

OF_DOCS = sorted((Path(__file__).parents[1] / "docs" / "studies").glob("*.toml"))
PAPERS_ALPHAS = (-2, -1, -0.7, -0.4, -0.2, 0, 0.2, 0.4, 0.7, 1, 2)
MINIMAL = """\
alphas = [0]
seeds = [0]
[dataset]
name = "digits"
validation = 200
[model]
name = "resnet8"
[recipe]
epochs = 1
batch_size = 2
learning_rate = 1
"""


@pytest.fixture
def load(tmp_path):
    """Return a function that loads the minimal study, with some text replaced."""

    def load(*changes, name="mine.toml"):
        text = MINIMAL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return load_study(str(tmp_path / name))

    return load


# Shipped studies.


def test_each_of_the_studies_that_ship_is_in_the_docs():
    page = (OF_DOCS[0].parents[1] / "studies.md").read_text()
    assert shipped_studies()
    for name in shipped_studies():
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    "name", [*shipped_studies(), *map(str, OF_DOCS)], ids=lambda name: Path(name).stem
)
def test_study_loads_and_names_things_that_exist(name):
    study = load_study(name)
    assert study.name == Path(name).stem
    assert study.description
    assert study.dataset.name in DATASETS
    assert study.model.name in MODELS
    assert set(study.suites) <= set(SUITES)
    assert 0 in study.alphas or name not in shipped_studies()  # what mCE is relative to


@pytest.mark.parametrize("part", ["first", "last"])
def test_studies_of_three_layers_differ_in_the_layers_alone(part):
    every, some = (
        load_study(str(OF_DOCS[0].with_name(f"cifar10-jpeg-resnet8{end}.toml")))
        for end in ("", f"-{part}")
    )
    recipe = every.recipe.model_copy(update={"layers": f"{part} 3"})
    fields = {"name": some.name, "description": some.description, "recipe": recipe}
    assert some == every.model_copy(update=fields)


@pytest.mark.parametrize(
    ("name", "model", "seeds", "epochs", "batch", "rate"),
    [
        ("cifar10", "resnet20", 20, 200, 256, 0.1),
        ("cifar10-vgg16", "vgg16", 20, 200, 256, 0.01),
        ("tiny-imagenet", "resnet18", 20, 90, 4096, 0.1),
        ("tiny-imagenet-resnet50", "resnet50", 5, 90, 1400, 0.1),
    ],
)
def test_papers_studies_hold_the_papers_settings(name, model, seeds, epochs, batch, rate):
    study = load_study(name)
    assert (study.model.name, study.alphas) == (model, PAPERS_ALPHAS)
    assert study.seeds == tuple(range(seeds))
    recipe, cifar = study.recipe, name.startswith("cifar10")
    assert study.dataset.validation == (5_000 if cifar else 10_000)
    assert (recipe.epochs, recipe.batch_size) == (epochs, batch)
    milestones = (100, 150) if cifar else (35, 50, 65, 80)
    assert (recipe.schedule, recipe.milestones, recipe.decay) == ("step", milestones, 0.1)
    assert recipe.warmup_epochs == 0
    sgd = (recipe.learning_rate, recipe.momentum, recipe.nesterov, recipe.weight_decay)
    assert sgd == (rate, 0.9, False, 1e-4)


def test_papers_cifar10_is_tested_on_all_19_corruptions_with_shortcuts_of_zeros():
    study = load_study("cifar10")
    assert study.suites == ("corruptions-all",)
    assert study.model.options == {"shortcut": "A"}


# What a file may say.


def test_study_is_named_after_its_file_unless_it_says_otherwise(load):
    assert load().name == "mine"
    assert load(("alphas", 'name = "other"\nalphas')).name == "other"


def test_defaults_are_the_papers(load):
    study = load()
    assert study.suites == ("corruptions",)
    assert study.dataset.root is None
    assert (study.model.options, study.model.mean, study.model.std) == ({}, None, None)
    recipe = {"momentum": 0.9, "weight_decay": 1e-4, "schedule": "step", "augment": ()}
    assert {name: getattr(study.recipe, name) for name in recipe} == recipe


def test_study_cannot_be_changed(load):
    study = load()
    for part, name in [(study, "alphas"), (study.recipe, "epochs"), (study.model, "name")]:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, name, None)


def test_whole_and_decimal_alphas_are_the_same_study(load):
    assert load(("alphas = [0]", "alphas = [0, 1]")) == load(
        ("alphas = [0]", "alphas = [0.0, 1.0]")
    )
    assert (
        load(("alphas = [0]", "alphas = [0, 1]")).model_dump_json()
        == load(("alphas = [0]", "alphas = [0.0, 1.0]")).model_dump_json()
    )


def test_minus_zero_is_zero(load):
    (alpha,) = load(("alphas = [0]", "alphas = [-0.0]")).alphas
    assert str(alpha) == "0.0"


def test_relative_root_is_beside_the_file(load, tmp_path, monkeypatch):
    study = load(("validation", 'root = "images"\nvalidation'))
    assert study.dataset.root == tmp_path / "images"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_study("../mine.toml").dataset.root.resolve() == tmp_path / "images"


def test_absolute_root_and_home_are_kept(load, monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    for written, meant in {"/data/x": "/data/x", "~/x": "/somebody/x"}.items():
        study = load(("validation", f'root = "{written}"\nvalidation'))
        assert str(study.dataset.root) == meant


def test_check_alphas_keeps_their_order():
    assert check_alphas((1.0, -2.0, 0.5)) == (1.0, -2.0, 0.5)


# What is refused.

REFUSED = {
    "unknown key": (("seeds", "seed"), r"unknown key 'seed'; did you mean 'seeds'\?"),
    "unknown key with nothing near": (
        ("alphas", "zzz = 1\nalphas"),
        "unknown key 'zzz'; known are name, description, alphas, seeds, suites, dataset, model, ",
    ),
    "unknown nested key": (
        ("batch_size", "batchsize"),
        r"unknown key 'recipe.batchsize'; did you mean 'recipe.batch_size'\?",
    ),
    "unknown key of the data set": (
        ("validation", 'roots = "x"\nvalidation'),
        r"unknown key 'dataset.roots'; did you mean 'dataset.root'\?",
    ),
    "unknown table": (("[model]", "[models]"), r"unknown key 'models'; did you mean 'model'\?"),
    "missing key": (("alphas = [0]\n", ""), r"the key alphas is missing"),
    "missing nested key": (("epochs = 1\n", ""), r"the key recipe.epochs is missing"),
    "infinite alpha": (("alphas = [0]", "alphas = [inf]"), r"alphas.*: .*finite.*, got inf"),
    "alpha that is no number": (("alphas = [0]", "alphas = [nan]"), r"alphas.*finite.*, got nan"),
    "alpha twice": (("alphas = [0]", "alphas = [1, 1.0]"), r"alphas: each alpha once, got"),
    "zero twice": (("alphas = [0]", "alphas = [0, -0.0]"), r"alphas: each alpha once, got"),
    "no alpha": (("alphas = [0]", "alphas = []"), r"alphas: .*at least 1 item.*, got \[\]"),
    "alpha in words": (("alphas = [0]", 'alphas = ["x"]'), r"alphas.0: .*valid number.*, got 'x'"),
    "lone alpha": (("alphas = [0]", "alphas = 1"), r"alphas: .*valid tuple, got 1"),
    "no seed": (("seeds = [0]", "seeds = []"), r"seeds: .*at least 1 item"),
    "seed twice": (("seeds = [0]", "seeds = [1, 1]"), r"seeds: each seed once, got \[1, 1\]"),
    "negative seed": (("seeds = [0]", "seeds = [-1]"), r"seeds.0: .*greater than or equal to 0"),
    "fractional epochs": (("epochs = 1", "epochs = 1.5"), r"recipe.epochs: .*, got 1.5"),
    "no epoch": (
        ("epochs = 1", "epochs = 0"),
        r"recipe.epochs: .*greater than or equal to 1.*got 0",
    ),
    "lone example": (("batch_size = 2", "batch_size = 1"), r"recipe.batch_size: .*, got 1"),
    "rate": (("learning_rate = 1", "learning_rate = 0"), r"recipe.learning_rate: .*greater than 0"),
    "infinite rate": (("learning_rate = 1", "learning_rate = inf"), r"learning_rate: .*finite"),
    "validation": (("validation = 200", "validation = 0"), r"dataset.validation: .*, got 0"),
    "table that is none": (('[model]\nname = "resnet8"\n', ""), r"the key model is missing"),
    "schedule": (
        ("epochs", 'schedule = "linear"\nepochs'),
        r"recipe.schedule: .*'step' or 'cosine', got 'linear'",
    ),
    "milestones of a cosine": (
        ("epochs", 'schedule = "cosine"\nmilestones = [1]\nepochs'),
        r'recipe: milestones belong to schedule = "step", not "cosine"',
    ),
    "warm-up that never ends": (
        ("epochs", "warmup_epochs = 1\nepochs"),
        r"recipe: warmup_epochs = 1 leaves none of 1 epochs",
    ),
    "augmentation": (
        ("epochs", 'augment = ["flip", "rotate"]\nepochs'),
        r"recipe.augment.1: .*'flip' or 'crop', got 'rotate'",
    ),
    "deviation": (("[recipe]", "std = [1, 0, 1]\n[recipe]"), r"model.std: must be positive"),
    "two channels": (("[recipe]", "mean = [1, 0]\n[recipe]"), r"model.mean"),
    "name": (("alphas", 'name = "../up"\nalphas'), r"name: .*pattern.*, got '../up'"),
    "no suite": (("[dataset]", "suites = []\n[dataset]"), r"suites: .*at least 1 item"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_wrong_value_is_named_with_its_file_in_one_line(what, load, tmp_path):
    change, message = REFUSED[what]
    with pytest.raises(SelbenchError, match=rf"^{tmp_path}/mine.toml: .*{message}") as refusal:
        load(change)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["alphas = [", "alphas", "[recipe", "a = 1\na = 2", "\x00"])
def test_malformed_toml_names_file_and_line(text, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SelbenchError, match=r"bad.toml is not valid TOML: .* \(at ") as refusal:
        load_study("bad.toml")
    assert "\n" not in str(refusal.value)


def test_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SelbenchError, match=r"bad.toml is not valid TOML"):
        load_study("bad.toml")


def test_missing_file_points_to_what_ships():
    with pytest.raises(
        SelbenchError, match=r"there is no study file none.toml; see `selbench list"
    ):
        load_study("none.toml")


def test_unknown_name_gives_the_nearest():
    with pytest.raises(SelbenchError, match=r"unknown study .*'tinyimagenet'; .*'tiny-imagenet'"):
        load_study("tinyimagenet")


def test_repeated_alphas_are_refused():
    with pytest.raises(ValueError, match=r"each alpha once, got \[1.0, 1.0\]"):
        check_alphas((1.0, 1.0))
