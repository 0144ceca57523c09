"""`selbench corrupt` on the command line."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from sets import NINETEEN, content

from corruptions import CORRUPTIONS, bar_corruptions, corrupt
from corruptions.frost import PHOTOGRAPHS
from selbench._kit import outputs
from selbench._kit.progress import SILENT
from selbench.datasets import DATASETS
from selbench.sets import conformity, level_files, source, writing
from selbench.sets.layout import ABOUT, read_about

FEW = ("--corruption", "contrast, fog", "--severity", "1,4")


def test_set_is_written_and_told(selbench, images):
    ended = selbench("corrupt", images, "set", *FEW)
    assert ended.code == 0
    assert ended.out == "set holds 2 corruptions at 2 severities of 6 images\n"
    names = {"contrast.npy", "fog.npy", "labels.npy", ABOUT}
    assert set(content(Path("set"))) == names


@pytest.mark.soak
def test_defaults_are_those_of_the_published_sets(selbench, images):
    assert selbench("corrupt", images, "set", "--quiet").code == 0
    about = read_about(Path("set"))
    assert (about.layout, about.severities, about.seed) == ("npy", (1, 2, 3, 4, 5), 0)
    assert set(about.parts) == NINETEEN
    assert np.load("set/frost.npy").shape == (30, 32, 32, 3)


def test_options_may_be_repeated_and_are_put_in_order(selbench, images):
    words = ["--corruption", "fog", "--corruption", "contrast", "--severity", "4", "--severity", 1]
    selbench("corrupt", images, "one", *words)
    selbench("corrupt", images, "other", *FEW)
    assert content(Path("one")) == content(Path("other"))


def test_names_of_data_sets_take_data(selbench, images):
    selbench("corrupt", "folder", "one", *FEW, "--data", images, "--seed", "3")
    selbench("corrupt", images, "other", *FEW, "--seed", "3")
    assert content(Path("one")) == content(Path("other"))


def test_a_data_set_is_corrupted_as_in_a_run(selbench):
    selbench("corrupt", "digits", "set", "--corruption", "fog", "--severity", "3")
    test = DATASETS["digits"](None, SILENT).test
    made = corrupt(test.images[590:], "fog", 3, examples=test.examples[590:])
    assert np.array_equal(np.load("set/fog.npy")[590:], made.permute(0, 2, 3, 1).numpy())


def test_folders_and_scale(selbench, images):
    ended = selbench("corrupt", images, "set", *FEW, "--format", "folder", "--scale", "64")
    assert ended.code == 0
    assert Path("set/fog/4/digit-2/0001.JPEG").is_file()
    assert read_about(Path("set")).scale == 64


def test_finished_set_and_further_corruptions(selbench, images, monkeypatch):
    selbench("corrupt", images, "set", *FEW)
    before = content(Path("set"))
    assert selbench("corrupt", images, "set", *FEW).out.startswith("set holds 2 corruptions")
    assert content(Path("set")) == before
    monkeypatch.setattr(writing, "find_variants", lambda names: dict.fromkeys(names, "procedural"))
    more = ("--corruption", "frost", "--severity", "1,4")
    assert selbench("corrupt", images, "set", *more).out == (
        "set holds 3 corruptions at 2 severities of 6 images; frost is procedural\n"
    )


def test_preview_alone_writes_only_the_sheet(selbench, images):
    ended = selbench("corrupt", images, *FEW, "--preview", "new/sheet.png")
    assert ended.out == f"new/sheet.png shows 2 corruptions of {images}\n"
    assert set(content(Path("new"))) == {"sheet.png"}


CODE = """
import torch
from torch import nn

class Light(nn.Module):
    def forward(self, images):
        light = images.mean((1, 2, 3))
        return torch.stack([light - 0.5, 0.5 - light, 0 * light], 1)

def make():
    return Light()
"""


def test_a_preview_takes_networks_by_the_options_of_a_run(selbench, refused, images, match):
    Path("net.py").write_text(CODE)
    network = ("--model", "net.py:make", "--quiet", "--preview", "s.png")
    said = [
        selbench("corrupt", images, *FEW, *network).out,
        selbench("corrupt", "--dataset", "folder", "--data", images, *FEW, *network).out,
    ]
    pattern = r"s.png shows 2 corruptions of \S+\nnet.py:make: right on (\d+) of 10 images\n"
    counts = [re.fullmatch(pattern, each).group(1) for each in said]
    assert counts[0] == counts[1]
    smaller = selbench(
        "corrupt", images, *FEW, *network, "--resize", "12", "--scale", "32", "--name", "mine"
    )
    assert "mine: right on " in smaller.out
    assert selbench("corrupt", images, "set", *FEW, "--quiet").code == 0
    of_set = selbench("corrupt", images, *FEW, *network, "--source", "set", "--force").out
    match(r"^s.png shows fog, contrast of set; net.py:make: right on \d+ of 10 images$", of_set)
    for words, sentence in {
        (images, "set2", "--model", "net.py:make"): "--preview shows a network's answers",
        (images, "--preview", "s.png", "--mean", "1,1,1"): "--mean describes a network; name it",
        (images, *network, "--model", "net.py:make"): "the answers of one network, got 2;",
        (images, "--dataset", "digits", *network): r"INPUT \(.*\) and --dataset digits both name",
        (images, *network, "--data", images): "--data belongs to a data set's name; leave it out",
        (images, "--checkpoint", "a.pt", "--preview", "s.png"): "name it: --model selbench:r",
    }.items():
        match(sentence, refused("corrupt", *words))


def test_preview_may_lie_in_the_set(selbench, images):
    words = ["corrupt", images, "set", *FEW, "--preview", "set/sheet.png"]
    assert selbench(*words).code == selbench(*words).code == 0
    assert "sheet.png" in content(Path("set"))


def test_tilde_is_the_user_s_folder(selbench, images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert selbench("corrupt", images, "~/set", *FEW, "--preview", "~/sheet.png").code == 0
    assert (tmp_path / "user/set/fog.npy").is_file()
    assert (tmp_path / "user/sheet.png").is_file()
    assert not Path("~").exists()
    words = ("--corruption", "contrast", "--self-check", "--against", "~/set")
    assert selbench("corrupt", images, *words).code == 0


@pytest.mark.parametrize("place", ["taken/sheet.png", "taken/new/sheet.png", "folder.png"])
def test_preview_that_cannot_be_written_is_refused_before_the_set_is(place, refused, images, match):
    Path("taken").touch()
    Path("folder.png").mkdir()
    sentence = refused("corrupt", images, "set", *FEW, "--preview", place)
    match(rf"^cannot write {place}: (Is|Not) a directory; .*\(--preview\)$", sentence)
    assert not Path("set").exists()


def test_preview_without_permission_is_refused(refused, images, monkeypatch, match):
    monkeypatch.setattr(outputs, "writable", lambda folder: False)
    sentence = refused("corrupt", images, "--preview", "sheet.png")
    match(r"^cannot write sheet.png: Permission denied; .*\(--preview\)$", sentence)


def test_damaged_photographs_are_one_sentence(refused, images, fresh_home, match):
    (fresh_home / "frost").mkdir(parents=True)
    for name in PHOTOGRAPHS:
        (fresh_home / "frost" / name).write_bytes(b"junk")
    for words in (["set"], ["--preview", "sheet.png"]):
        sentence = refused("corrupt", images, *words, "--corruption", "frost", "--quiet")
        match(r"^the photograph .*frost/frost1.png is no image; replace it$", sentence)
    assert not Path("set").exists()


def test_damaged_photographs_are_one_sentence_in_a_run(refused, tiny_study, tmp_path, monkeypatch):
    monkeypatch.setenv("SELBENCH_FROST", str(tmp_path / "junk"))
    (tmp_path / "junk").mkdir()
    for name in PHOTOGRAPHS:
        (tmp_path / "junk" / name).write_bytes(b"junk")
    words = ("--suite", "corruptions", "--corruption", "frost", "--quiet")
    assert "frost1.png is no image; replace it" in refused("run", tiny_study, *words)


def test_ctrl_c_ends_with_a_hint_and_the_command_goes_on(selbench, images, monkeypatch):
    selbench("corrupt", images, "whole", *FEW)
    genuine = level_files.Arrays.place

    def interrupted(self, name, severity, *rest):
        genuine(self, name, severity, *rest)
        if severity == 4:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(level_files.Arrays, "place", interrupted)
        ended = selbench("corrupt", images, "set", *FEW)
    assert ended.code == 130
    assert ended.err == "selbench: interrupted; run the same command again to resume\n"
    assert selbench("corrupt", images, "set", *FEW).code == 0
    assert content(Path("set")) == content(Path("whole"))


KILLED = """
import os, signal, sys
from selbench.commands import cli
from selbench.sets import level_files, source
source.VALUES["cpu"] = 2 * 3 * 32 * 32
genuine, calls = level_files.Arrays.place, []
def place(*arguments):
    genuine(*arguments)
    calls.append(arguments)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
level_files.Arrays.place = place
sys.argv = ["selbench", *sys.argv[1:]]
cli.main()
"""


HOLDING = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_second_command_into_a_folder_is_refused(refused, images, selbench):
    selbench("corrupt", images, "set", *FEW)
    before = content(Path("set"))
    command = [sys.executable, "-c", HOLDING, "set"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        sentence = refused("corrupt", images, "set", *FEW, "-q")
        other.kill()
    assert sentence == (
        "another command is writing into set; wait for its end, or choose another folder"
    )
    assert content(Path("set")) == before
    assert selbench("corrupt", images, "set", *FEW).code == 0


def test_killed_command_goes_on(selbench, images):
    selbench("corrupt", images, "whole", *FEW)
    code, _, err = Forked("corrupt", images, "set", *FEW, code=KILLED).ended()
    assert code == -signal.SIGKILL, err
    assert not list(Path("set").glob("[!.]*fog.npy"))
    (part,) = read_about(Path("set")).parts.values()
    assert part.finished == (1,)
    assert selbench("corrupt", images, "set", *FEW).code == 0
    assert content(Path("set")) == content(Path("whole"))


# The self-check.


def test_self_check_of_a_written_set(selbench, images):
    selbench("corrupt", images, "set", "--corruption", "contrast,fog,pixelate")
    ended = selbench("corrupt", images, "--self-check", "--against", "set")
    assert ended.code == 0
    lines = [line.split() for line in ended.out.splitlines()]
    assert " ".join(lines[0]) == "corruption severity equal values % largest difference"
    assert lines[1:3] == [["labels", "100", "0"], ["contrast", "1", "100", "0"]]
    assert lines[7] == ["pixelate", "1", "100", "0"]
    sentence = "100 % of the values in set are equal, the largest difference is 0."
    assert ended.out.splitlines()[-1] == sentence


def test_difference_is_a_finding_and_no_failure(selbench, images):
    selbench("corrupt", images, "set", "--corruption", "contrast")
    values = bytearray(Path("set/contrast.npy").read_bytes())
    values[-1] ^= 3
    Path("set/contrast.npy").write_bytes(values)
    ended = selbench("corrupt", images, "--self-check", "--against", "set", "--quiet")
    assert ended.code == 0
    assert ended.out.splitlines()[-1].endswith("(contrast at severity 5).")
    assert ended.err == ""


def test_self_check_takes_cifar10_unless_told(refused):
    assert "cifar-10-batches-py is missing" in refused("corrupt", "--self-check")


def test_table_with_md5s_only(selbench, monkeypatch):
    monkeypatch.setitem(DATASETS._functions, "cifar10", DATASETS["digits"])
    monkeypatch.setattr(conformity.FileDigest, "matches", lambda self, md5: md5 != "saturate")
    monkeypatch.setitem(
        conformity.PUBLISHED, "cifar10", {name: name for name in (*CORRUPTIONS, "labels")}
    )
    ended = selbench("corrupt", "--self-check", "--corruption", "contrast,saturate")
    assert [line.split() for line in ended.out.splitlines()[:-1]] == [
        ["corruption", "md5"],
        ["labels", "equal"],
        ["contrast", "equal"],
        ["saturate", "differs"],
    ]


# What is refused.

NOTHING = r"say what to corrupt \(INPUT: .*\) and what to make of it \(OUTPUT: .*--self-check$"
WRONG = {
    "nothing": ([], NOTHING),
    "no output": (["digits"], NOTHING),
    "input": (["digit", "set"], "there is neither a folder nor a data set 'digit'; did you mean"),
    "file": (["tiny.png", "set"], "there is neither a folder nor a data set 'tiny.png'; known are"),
    "corruption": (
        ["digits", "set", "--corruption", "fog,gausian_noise"],
        "unknown corruption 'gausian_noise'; did you mean 'gaussian_noise'",
    ),
    "no corruption": (["digits", "set", "--corruption", ""], "unknown corruption ''; known are"),
    "severity": (
        ["digits", "set", "--severity", "1,6"],
        "--severity takes whole numbers from 1 to 5, got '6'$",
    ),
    "no severity": (["digits", "set", "--severity", "x"], "--severity takes .*, got 'x'$"),
    "scale": (["digits", "set", "--scale", "48"], "--scale takes 32, 64 or 224, got 48$"),
    "no scale": (["digits", "set", "--scale", "x"], "Invalid value for '--scale'.*See selbench"),
    "format": (["digits", "set", "--format", "jpg"], "unknown format 'jpg'; known are npy, folder"),
    "seed": (["digits", "set", "--seed", "-1"], "Invalid value for '--seed'.*See selbench --help"),
    "device": (["digits", "set", "--device", "gpu"], "device 'gpu' cannot be used .*; try"),
    "data": (["folder", "set", "--data", "nowhere"], "there is no folder nowhere;"),
    "no data": (["folder", "set"], r'dataset "folder" needs dataset.root \(or --data\)'),
    "preview": (["digits", "--preview", "x.jpg"], "--preview writes a PNG file; call x.jpg x.png$"),
    "against": (["digits", "set", "--against", "x"], "--against belongs to --self-check; give"),
    **{
        f"check and {option}": (
            [*words, "--self-check"],
            "--self-check uses all severities, seed 0 and, without --against, the constants of "
            f"32 pixels, and writes nothing; leave out {option}$",
        )
        for option, words in {
            "OUTPUT": ["digits", "set"],
            "--severity": ["digits", "--severity", "1"],
            "--preview": ["digits", "--preview", "x.png"],
            "--seed": ["digits", "--seed", "1"],
            "--format": ["digits", "--format", "folder"],
            "--scale": ["digits", "--scale", "64"],
            "OUTPUT and --seed": ["digits", "set", "--seed", "1"],
        }.items()
    },
    "check and scale 0": (["--self-check", "--scale", "0"], "--scale takes 32, 64 or 224, got 0$"),
    "preview and scale 0": (
        ["digits", "--preview", "x.png", "--scale", "0"],
        "--scale takes 32, 64 or 224, got 0$",
    ),
    "check of others": (["digits", "--self-check"], "the published md5s are those of cifar10 and"),
    "check against nothing": (
        ["digits", "--self-check", "--against", "nowhere"],
        "nowhere holds no defocus_blur.npy or ",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_word_is_one_sentence(what, refused, match):
    words, sentence = WRONG[what]
    match(sentence, refused("corrupt", *words, "--quiet"))
    assert not Path("set").exists()


def test_image_that_changed_meanwhile_is_told(refused, images, monkeypatch, match):
    genuine = source._look

    def shrinking(paths, *rest):
        survey = genuine(paths, *rest)
        Path(paths[1]).write_bytes(b"no image any more")
        return survey

    monkeypatch.setattr(source, "_look", shrinking)
    match("0001.png cannot be decoded as an image", refused("corrupt", images, "set", "-q"))


@pytest.mark.soak
def test_a_suite_names_the_corruptions_of_a_set(selbench, image_tree):
    for side, size in ((32, 32), (64, 64)):
        images = image_tree(f"of-{side}", classes=1, train=1, test=1, side=side)
        words = ("--suite", "corruptions-bar", "--severity", "2", "--quiet")
        assert selbench("corrupt", images, f"set-{side}", *words).code == 0
        assert set(read_about(Path(f"set-{side}")).parts) == set(bar_corruptions(size))
    words = ("--suite", "corruptions", "--severity", "2", "--quiet")
    assert selbench("corrupt", "of-32", "benchmark", *words).code == 0
    fifteen = {name for name, each in CORRUPTIONS.items() if not each.extra}
    assert set(read_about(Path("benchmark")).parts) == fifteen
    refused = selbench("corrupt", "of-32", "other", "--suite", "attacks")
    assert refused.code == 2
    assert "unknown suite of corruptions 'attacks'; known are corruptions" in refused.err
