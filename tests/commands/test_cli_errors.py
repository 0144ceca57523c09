"""Bad input on the command line: each is one sentence and exit code 2."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from selbench.datasets import load_dataset
from selbench.study import load_study
from selbench.training import trained as training_run

WRONG = {
    "study without a near one": (
        ["run", "imagenet21k.v9"],
        r"unknown study .* 'imagenet21k.v9'; known are cifar10, cifar10-vgg16, digits, ",
    ),
    "study": (["run", "digit"], r"unknown study .* 'digit'; did you mean 'digits'\?"),
    "study to train": (["train", "digit"], r"unknown study .* 'digit'; did you mean 'digits'\?"),
    "study file": (["run", "no/such.toml"], r"there is no study file no/such.toml; see `selbench"),
    "study that is a folder": (["run", "folder.toml"], r"there is no study file folder.toml"),
    "suite": (
        ["run", "tiny.toml", "--suite", "corruption"],
        r"unknown suite 'corruption'; did you mean 'corruptions'\?",
    ),
    "alpha": (["run", "--alpha", "1,x"], r"--alpha takes finite numbers, .*; got '1,x'$"),
    "no alpha": (["run", "--alpha", ""], r"--alpha takes finite numbers, .*; got ''$"),
    "alpha that is no number": (
        ["run", "--alpha", "nan"],
        r"--alpha takes finite .*; got 'nan' \(alpha must be a finite number, got nan\)",
    ),
    "infinite alpha": (
        ["train", "--alpha", "0,-inf"],
        r"--alpha takes .*; got '0,-inf' \(alpha must be a finite number, got -inf\)",
    ),
    "alpha twice": (
        ["run", "--alpha", "1", "--alpha", "1.0"],
        r"--alpha takes .*; got '1,1.0' \(each alpha once, got \[1.0, 1.0\]\)",
    ),
    "seed": (["run", "--seed", "-1"], r"--seed takes whole numbers from 0 to .*; got '-1'"),
    "fractional seed": (["run", "--seed", "0.5"], r"--seed takes whole numbers .*; got '0.5'"),
    "seed twice": (["run", "--seed", "1,01"], r"--seed takes .*, each once, .*; got '1,01'"),
    "device": (["run", "--device", "gpu"], r"device 'gpu' cannot be used .*; try --device cpu"),
    "limit": (["run", "--limit", "0"], r"Invalid value for '--limit'.*See selbench --help\."),
    "limit of a board": (["leaderboard", "--limit", "-3"], r"Invalid value for '--limit'"),
    "mean without checkpoint": (
        ["run", "--mean", "0,0,0"],
        r"--mean and --std describe a --checkpoint",
    ),
    "mean of two channels": (
        ["run", "tiny.toml", "--checkpoint", "x", "--mean", "1,2"],
        r"--mean takes three numbers such as 0.485,0.456,0.406, got '1,2'",
    ),
    "std that is no number": (
        ["run", "tiny.toml", "--checkpoint", "x", "--std", "1,2,a"],
        r"--std takes three numbers such as 0.485,0.456,0.406, got '1,2,a'",
    ),
    "checkpoint": (
        ["run", "tiny.toml", "--checkpoint", "mine.pth"],
        r"there is no checkpoint mine.pth$",
    ),
    "data": (
        ["run", "tiny.toml", "--data", "nowhere"],
        r"there is no folder /.*/nowhere; put images there as train/<class>/\* and test/<class>/\*",
    ),
    "cifar10's data": (
        ["run", "cifar10", "--data", "nowhere"],
        r"nowhere/cifar-10-batches-py is missing or damaged; run `selbench download cifar10`, or ",
    ),
    "tiny-imagenet's data": (
        ["run", "tiny-imagenet"],
        r"val_annotations.txt is missing; run `selbench download tiny-imagenet`, or set ",
    ),
    "corruption": (
        ["run", "--suite", "corruptions", "--corruption", "frog"],
        r"unknown corruption 'frog'; did you mean 'fog'\?",
    ),
    "corruption that no suite holds": (
        ["run", "tiny.toml", "--corruption", "fog"],
        r"fog is not in the suite clean; add --suite corruptions-all",
    ),
    "attack": (
        ["run", "--suite", "attacks", "--attack", "pgd"],
        r"unknown attack 'pgd'; did you mean 'pgd-l2'\?",
    ),
    "attack that no suite holds": (
        ["run", "tiny.toml", "--suite", "attacks", "--attack", "pgd-l2,ddn-l2"],
        r"ddn-l2 is not in the suite attacks; add --suite attacks-strong",
    ),
    "budget without a unit": (
        ["run", "tiny.toml", "--budget", "30"],
        r"^--budget takes a time with its unit, such as 90s, 30m or 1.5h, got '30'$",
    ),
    "margin of nothing": (
        ["run", "tiny.toml", "--margin", "0"],
        r"^--margin takes points above 0 and up to 100, got 0$",
    ),
    "threshold": (
        ["run", "tiny.toml", "--threshold", "101"],
        r"^--threshold takes a percentage from 0 to 100, got 101$",
    ),
    "margin of attacks that are quick": (
        ["run", "tiny.toml", "--suite", "attacks", "--margin", "3"],
        r"^--budget, --margin and --threshold stop attacks of the suite attacks-strong, and none ",
    ),
    "budget on Ray": (
        ["run", "tiny.toml", "--budget", "1m", "--engine", "ray"],
        r"^--budget, --margin and --threshold look at all networks after every chunk of images, ",
    ),
    "scale of nothing": (["run", "--scale", "0"], r"--scale 0: input should be 32, 64 or 224$"),
    "path of nobody": (
        [
            "figure",
            "tradeoff",
            "--output",
            "~no-such-user/figure.svg",
            "--store",
            "~no-such-user/x",
        ],
        r"^a path begins with the ~ of no user here; write it in full$",
    ),
    "source of nothing": (["run", "--source", ""], r"--source: string should have at least 1 ch"),
    "scale": (["run", "--scale", "48"], r"--scale 48: input should be 32, 64 or 224$"),
    "scale of images on disk": (
        ["run", "--scale", "32", "--source", "official"],
        r"--scale 32: scale belongs to source = \"generated\"; images on disk are made$",
    ),
    "source": (
        ["run", "--source", "nowhere"],
        r"there is no folder /.*/nowhere of corrupted images$",
    ),
    "official set of digits": (
        ["run", "--source", "official"],
        r"no official corrupted set of the data set digits can be downloaded, only of cifar10, ",
    ),
    "empty model": (
        ["run", "tiny.toml", "--model", ""],
        r"^--model is empty; name a network, such as torchvision:resnet18, or leave --model out$",
    ),
    "empty store": (
        ["leaderboard", "--store", "none"],
        r"there are no results in none; make some with `selbench run`, or give --store",
    ),
    "format": (
        ["leaderboard", "--format", "markdown"],
        r"unknown format 'markdown'; known are table, md, csv, json, latex",
    ),
    "download": (["download", "cifar"], r"unknown .*'cifar'; did you mean 'cifar10'\?"),
    "option": (["run", "--alphas", "1"], r"No such option: --alphas.*See selbench --help\."),
    "command": (["runn"], r"No such command 'runn'.*See selbench --help\."),
    "missing argument": (["download"], r"Missing argument '(?i:dataset)'.*See selbench --help\."),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_word_is_one_sentence(what, refused, tiny_study, match):
    Path("folder.toml").mkdir()
    words, sentence = WRONG[what]
    match(sentence, refused(*words))


STUDY_EDITS = {
    "unknown key": ("alphas", "alpahs", r"tiny.toml: unknown key 'alpahs'; did you mean 'alphas'"),
    "unknown nested key": (
        "epochs",
        "epoch",
        r"tiny.toml: unknown key 'recipe.epoch'; did you mean 'recipe.epochs'\?",
    ),
    "unknown model": ("resnet8", "resnet9", r"unknown model 'resnet9'; did you mean 'resnet8'\?"),
    "unknown option": (
        "width",
        "widht",
        r"unknown option of model resnet8 'widht'; did you mean 'width'\?",
    ),
    "unknown dataset": (
        '"folder"',
        '"folders"',
        r"unknown dataset 'folders'; did you mean 'folder'\?",
    ),
    "malformed": ("[model]", "[model", r"tiny.toml is not valid TOML: .* \(at line 11, column 7\)"),
    "not finite": ("[0, 1]", "[0, inf]", r"tiny.toml: alphas.*finite number"),
    "twice": ("[0, 1]", "[1, 1.0]", r"tiny.toml: alphas: each alpha once, got \[1.0, 1.0\]"),
    "unknown suite": ('["clean"]', '["cleen"]', r"unknown suite 'cleen'; did you mean 'clean'\?"),
    "batch": (
        "batch_size = 12",
        "batch_size = 37",
        r"recipe.batch_size = 37 is larger than the 36 training images; choose a smaller one",
    ),
    "validation": (
        "validation = 12",
        "validation = 48",
        r"dataset.validation = 48 leaves none of the 48 training images; hold fewer out",
    ),
}


@pytest.mark.parametrize("what", STUDY_EDITS)
def test_wrong_study_is_one_sentence(what, refused, tiny_study, edit, match):
    old, new, sentence = STUDY_EDITS[what]
    edit(tiny_study, old, new)
    match(sentence, refused("run", tiny_study, "--quiet"))


def test_empty_class_folder_is_named(refused, tiny_study, match):
    Path("images/train/a-class").mkdir()
    Path("images/test/a-class").mkdir()
    match(r"the class folder /.*images/train/a-class holds no images", refused("run", tiny_study))


def test_undecodable_image_is_named(refused, tiny_study, match):
    Path("images/test/digit-1/0002.png").write_bytes(b"no image")
    sentence = refused("run", tiny_study, "--quiet")
    match(r"images/test/digit-1/0002.png cannot be decoded as an image .*; repair or", sentence)


def test_odd_sized_image_is_named(refused, tiny_study, match):
    Image.new("RGB", (31, 32)).save("images/train/digit-2/0007.png")
    sentence = refused("run", tiny_study, "--quiet")
    match(r"/digit-2/0007.png is 31 x 32 pixels, .*/0000.png is 32 x 32; .*--resize 31 ", sentence)


def test_size_without_constants_is_refused_before_training(
    refused, tiny_study, image_tree, match, monkeypatch
):
    monkeypatch.setattr(training_run, "train", None)
    image_tree("large", side=48)
    words = ["run", tiny_study, "--data", "large", "--suite", "corruptions", "--quiet"]
    match(
        r"^gaussian_noise has no constants for images of 48 x 48 pixels, only for 32, 64 and 224; "
        r"use the nearest with --scale 64 \(or corruptions.scale in the study\)$",
        refused(*words),
    )


def test_corruption_that_the_store_lacks_is_named(refused, selbench, tiny_study, match):
    selbench("run", tiny_study)
    sentence = refused("leaderboard", "--corruption", "fogg")
    match(r"unknown corruption 'fogg'; did you mean 'fog'", sentence)
    match(
        r"runs/tiny holds no results under fog; run its study with --suite corruptions-all --corr",
        refused("leaderboard", "--corruption", "fog"),
    )


def test_study_that_the_store_lacks_is_named(refused, selbench, tiny_study, match):
    selbench("run", tiny_study)
    match(
        r"unknown study in the store runs 'tinny'; did you mean 'tiny'\?",
        refused("leaderboard", "tinny"),
    )


@pytest.mark.parametrize("command", ["run", "dry-run", "leaderboard"])
def test_store_of_another_version_is_refused(command, refused, tiny_study, match):
    Path("runs").mkdir()
    Path("runs/selbench.json").write_text('{"format": 99}')
    more = ["--dry-run"] if command == "dry-run" else []
    words = ["leaderboard"] if command == "leaderboard" else ["run", tiny_study, "--quiet", *more]
    match(
        r"the store runs has format 99, this version of selbench reads format 2 and 3;",
        refused(*words),
    )


def test_store_is_checked_before_training(refused, tiny_study, monkeypatch):
    monkeypatch.setattr(training_run, "train", None)
    Path("runs").write_text("")
    assert refused("run", tiny_study) == "runs is a file; name a folder (--store)"


@pytest.mark.parametrize("mode", [0o600, 0o700])
def test_store_that_is_a_file_is_refused(mode, refused, tiny_study):
    Path("taken").touch(mode)
    sentence = refused("run", tiny_study, "--store", "taken", "--quiet")
    assert sentence == "taken is a file; name a folder (--store)"


def test_damaged_record_is_named(refused, selbench, tiny_study, match):
    selbench("run", tiny_study)
    (record,) = Path("runs/tiny/cells").glob("*.json")
    record.write_bytes(record.read_bytes()[:100])
    match(rf"{record} is damaged \(.*\); delete it and run the same", refused("run", tiny_study))
    record.unlink()
    assert selbench("run", tiny_study).code == 0


FULL = {"images": 40_000, "checkpoint": 15_000, "results": 300}
# Bytes that still fit: more than what is written before, less than the decoded images, a training's
# checkpoint, and the results of an evaluation.


@pytest.mark.parametrize("what", FULL)
@pytest.mark.sample
def test_full_disk_is_one_sentence_and_leaves_no_part_of_a_file(
    what, refused, selbench, tiny_study, fresh_home, room_for
):
    if what != "images":
        load_dataset(load_study(str(tiny_study)).dataset)
    if what == "results":
        assert selbench("train", tiny_study).code == 0
    with room_for(FULL[what]):
        sentence = refused("run", tiny_study, "--quiet")
    assert sentence.startswith("cannot write ")
    assert os.strerror(errno.EFBIG) in sentence
    assert "make room or permission there" in sentence
    assert not [path for path in Path().rglob("*") if path.name.endswith(".tmp")]
    assert selbench("run", tiny_study).code == 0
