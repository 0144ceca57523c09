"""Suites: every registered one, and what each is made of."""

import pytest
import torch

from corruptions import CORRUPTIONS, bar_corruptions, corrupt
from selbench._kit.errors import SelbenchError
from selbench.suites import SUITES, Condition, HeldOut, Recalibration, Setting, collect

MAIN = 15
HELD_OUT = HeldOut("checksum", 10, lambda seed: pytest.fail("no image is needed to plan"))
SMALL = Setting(32, 32, validation=HELD_OUT)


def images(side=32, batch=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("side", [32, 64])
def test_every_suite_names_each_piece_of_work_once(name, side):
    pieces = SUITES[name](Setting(side, side, validation=HELD_OUT))
    assert pieces
    assert len({(piece.suite, piece.name, piece.level) for piece in pieces}) == len(pieces)


@pytest.mark.parametrize("name", SUITES)
def test_every_condition_keeps_shape_and_type_and_leaves_its_input_alone(name):
    batch = images()
    before = batch.clone()
    for piece in SUITES[name](SMALL):
        if isinstance(piece, Condition) and piece.level in (None, 3):
            perturbed = piece.perturb(batch, torch.arange(4))
            assert perturbed.shape == batch.shape
            assert perturbed.dtype == torch.uint8
            assert torch.equal(batch, before)


def test_clean_is_the_identity():
    (piece,) = SUITES["clean"](SMALL)
    assert isinstance(piece, Condition)
    assert torch.equal(piece.perturb(images(), torch.arange(4)), images())


def test_corruptions_are_the_benchmarks_fifteen_at_five_severities():
    pieces = [piece for piece in SUITES["corruptions"](SMALL) if piece.suite == "corruptions"]
    names = {piece.name for piece in pieces}
    assert names == {name for name, each in CORRUPTIONS.items() if not each.extra}
    assert len(names) == MAIN
    assert len(pieces) == 5 * MAIN
    assert {piece.group for piece in pieces} == {"noise", "blur", "weather", "digital"}


def test_corruptions_all_adds_the_extra_ones_apart():
    pieces = SUITES["corruptions-all"](SMALL)
    extra = {piece.name for piece in pieces if piece.suite == "corruptions-extra"}
    assert extra == {n for n, each in CORRUPTIONS.items() if each.extra and not each.bar}
    assert len(pieces) == len(SUITES["corruptions"](SMALL)) + 5 * len(extra)


def bar_of(setting):
    pieces = [piece for piece in SUITES["corruptions-bar"](setting) if isinstance(piece, Condition)]
    return {piece.name: piece for piece in pieces if piece.suite == "corruptions-bar"}


@pytest.mark.parametrize(
    ("side", "scale", "source"),
    [
        (32, None, "generated"),
        (224, None, "generated"),
        (64, None, "generated (constants of selbench)"),
        (64, 32, "generated (constants of 32 pixels)"),
        (50, 224, "generated (constants of 224 pixels)"),
    ],
)
def test_c_bar_has_ten_and_says_whose_constants(side, scale, source):
    pieces = bar_of(Setting(side, side, scale))
    assert set(pieces) == set(bar_corruptions(scale or side))
    assert {piece.source for piece in pieces.values()} == {source}
    assert all(piece.group == CORRUPTIONS[name].family for name, piece in pieces.items())
    named = bar_of(Setting(side, side, scale, corruptions=("ripple", "fog")))
    assert set(named) == {"ripple"}
    assert ("selbench" in named["ripple"].source) == (32 not in (side, scale))


def test_c_bar_is_in_no_other_suite():
    for name in SUITES:
        if name != "corruptions-bar":
            assert not {p.name for p in SUITES[name](SMALL)} & {*bar_of(SMALL)}, name
    with pytest.raises(
        SelbenchError,
        match=r"^ripple is not in the suite corruptions; add --suite "
        "corruptions-bar$",
    ):
        collect(("corruptions",), Setting(32, 32, corruptions=("ripple",)))


def test_suites_together_hold_each_piece_once():
    both = collect(("corruptions-all", "corruptions", "clean"), SMALL)
    assert len(both) == len(SUITES["corruptions-all"](SMALL))


def test_an_unknown_suite_gets_the_nearest_name():
    with pytest.raises(
        SelbenchError, match="unknown suite 'corruption'; did you mean 'corruptions'"
    ):
        collect(("corruption",), SMALL)


@pytest.mark.parametrize(
    ("height", "width", "nearest"), [(48, 48, 64), (32, 48, 32), (160, 200, 224), (119, 400, 64)]
)
def test_images_of_a_size_without_constants_are_refused(height, width, nearest):
    message = (
        f"^gaussian_noise has no constants for images of {width} x {height} pixels, only for 32, "
        rf"64 and 224; use the nearest with --scale {nearest} \(or corruptions.scale in the st"
    )
    with pytest.raises(SelbenchError, match=message):
        collect(("corruptions",), Setting(height, width))


def test_images_too_small_for_a_corruption_are_refused():
    message = "^the images are 16 x 8 pixels; corruptions need at least 9 a side; enlarge them$"
    with pytest.raises(SelbenchError, match=message):
        collect(("corruptions",), Setting(8, 16, scale=32))


def test_a_scale_says_whose_constants_are_used():
    noise = collect(("corruptions",), Setting(48, 40, scale=64))[2]
    assert isinstance(noise, Condition)
    assert noise.source == "generated (constants of 64 pixels)"
    batch, examples = images()[:, :, :24, :20].repeat(1, 1, 2, 2), torch.arange(4)
    expected = corrupt(batch, noise.name, 1, examples=examples, scale=64)
    assert torch.equal(noise.perturb(batch, examples), expected)
    own = collect(("corruptions",), Setting(64, 64, scale=64))[2]
    assert own.source == "generated"
    frost = [p for p in collect(("corruptions",), Setting(48, 48, scale=64)) if p.name == "frost"]
    assert {piece.source for piece in frost} == {"generated (procedural, constants of 64 pixels)"}


def test_only_the_corruptions_asked_for_are_taken():
    pieces = collect(("corruptions-all",), Setting(32, 32, corruptions=("fog", "saturate")))
    assert [piece.name for piece in pieces] == ["clean"] * 2 + ["fog"] * 5 + ["saturate"] * 5


def test_an_unknown_corruption_gets_the_nearest_name():
    with pytest.raises(SelbenchError, match="unknown corruption 'frog'; did you mean 'fog'"):
        collect(("corruptions",), Setting(32, 32, corruptions=("frog",)))


def test_a_corruption_that_no_suite_holds_is_refused():
    message = "^spatter is not in the suite corruptions; add --suite corruptions-all$"
    with pytest.raises(SelbenchError, match=message):
        collect(("corruptions",), Setting(32, 32, corruptions=("fog", "spatter")))


def test_only_the_attacks_asked_for_are_made():
    setting = Setting(32, 32, corruptions=("fog",), attacks=("pgd-l2", "noise-linf"))
    pieces = collect(("corruptions", "attacks-strong"), setting)
    assert [piece.name for piece in pieces] == ["clean"] * 2 + ["fog"] * 5 + [
        "pgd-l2",
        "noise-linf",
    ]
    masking = collect(("attacks",), Setting(32, 32, attacks=("masking",)))
    assert [piece.name for piece in masking] == ["clean", "clean", "masking"]


def test_naming_attacks_leaves_what_is_measured_of_attacked_representations():
    named = Setting(32, 32, attacks=("fgsm-linf",))
    suites = ("dimensionality", "attacks")
    pieces = [(piece.suite, piece.name) for piece in collect(suites, named)]
    assert ("representation", "paper-pgd") in pieces
    assert ("attacks", "paper-pgd") not in pieces


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("pdg-linf", "^unknown attack 'pdg-linf'; did you mean 'pgd-linf'"),
        (
            "ddn-l2",
            "^ddn-l2 is not in the suite attacks, dimensionality; add --suite attacks-strong$",
        ),
    ],
)
def test_an_attack_that_is_not_there_is_refused(attack, message):
    with pytest.raises(SelbenchError, match=message):
        collect(("attacks", "dimensionality"), Setting(32, 32, attacks=("pgd-linf", attack)))


def test_calibration_is_of_every_condition_and_needs_images_that_were_held_out():
    pieces = SUITES["calibration"](SMALL)
    conditions = [piece for piece in pieces if isinstance(piece, Condition)]
    assert len(conditions) == 1 + 5 * MAIN
    fits = [piece for piece in pieces if isinstance(piece, Recalibration)]
    assert [c for fit in fits for c in fit.conditions] == conditions
    message = "^recalibration needs validation images, and there are none; use --suite cor"
    with pytest.raises(SelbenchError, match=message):
        SUITES["calibration"](Setting(32, 32))
    few = HeldOut("checksum", 9, HELD_OUT.load)
    with pytest.raises(SelbenchError, match=r"^dataset.validation = 9 is too few"):
        SUITES["calibration"](Setting(32, 32, validation=few))
