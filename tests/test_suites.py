"""Suites: every registered one, and what each is made of."""

import pytest
import torch

from corruptions import CORRUPTIONS
from selbench.datasets.dataset import make_split
from selbench.errors import SelbenchError
from selbench.models import build_model
from selbench.study import ModelSpec
from selbench.suites import SUITES, Analysis, Condition, collect, selectivity

MAIN = 15


def images(side=32, batch=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)


def test_the_suites_are_these():
    assert set(SUITES) == {"clean", "selectivity", "corruptions", "corruptions-all"}


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("side", [32, 64])
def test_every_suite_names_each_piece_of_work_once(name, side):
    pieces = SUITES[name](side)
    assert pieces
    assert len({(piece.suite, piece.name, piece.level) for piece in pieces}) == len(pieces)


@pytest.mark.parametrize("name", SUITES)
def test_every_condition_keeps_shape_and_type_and_leaves_its_input_alone(name):
    batch = images()
    before = batch.clone()
    for piece in SUITES[name](32):
        if isinstance(piece, Condition) and piece.level in (None, 3):
            perturbed = piece.perturb(batch, torch.arange(4))
            assert perturbed.shape == batch.shape
            assert perturbed.dtype == torch.uint8
            assert torch.equal(batch, before)


def test_clean_is_the_identity():
    (piece,) = SUITES["clean"](32)
    assert isinstance(piece, Condition)
    assert torch.equal(piece.perturb(images(), torch.arange(4)), images())


def test_corruptions_are_the_benchmarks_fifteen_at_five_severities():
    pieces = [piece for piece in SUITES["corruptions"](32) if piece.suite == "corruptions"]
    names = {piece.name for piece in pieces}
    assert names == {name for name, each in CORRUPTIONS.items() if not each.extra}
    assert len(names) == MAIN
    assert len(pieces) == 5 * MAIN
    assert {piece.group for piece in pieces} == {"noise", "blur", "weather", "digital"}


def test_corruptions_all_adds_the_extra_ones_apart():
    pieces = SUITES["corruptions-all"](32)
    extra = {piece.name for piece in pieces if piece.suite == "corruptions-extra"}
    assert extra == {name for name, each in CORRUPTIONS.items() if each.extra}
    assert len(pieces) == len(SUITES["corruptions"](32)) + 5 * len(extra)


def test_suites_together_hold_each_piece_once():
    both = collect(("corruptions-all", "corruptions", "clean"), 32, 32)
    assert len(both) == len(SUITES["corruptions-all"](32))


def test_an_unknown_suite_gets_the_nearest_name():
    with pytest.raises(
        SelbenchError, match="unknown suite 'corruption'; did you mean 'corruptions'"
    ):
        collect(("corruption",), 32, 32)


def test_images_of_a_size_without_constants_are_refused():
    with pytest.raises(
        SelbenchError, match=r"constants for images of 32, 64, 224 pixels, .* have 48"
    ):
        collect(("corruptions",), 48, 48)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(SelbenchError, match="square images, the data set's are 32 x 48 pixels"):
        collect(("clean",), 48, 32)


def test_selectivity_reports_every_layer_its_null_its_dead_units_and_the_mean():
    model = build_model(ModelSpec(name="resnet8"), 4, ((0.5,) * 3, (0.25,) * 3)).eval()
    split = make_split(images(batch=40), torch.arange(40) % 4)
    (analysis,) = selectivity(32)
    assert isinstance(analysis, Analysis)
    rows = analysis.measure(model, split, 4)
    per_layer = {row.metric for row in rows if row.layer == 1}
    assert per_layer == {
        "selectivity_index",
        "selectivity_index_null",
        "selectivity_index_alive",
        "dead_units",
        "units",
    }
    assert {row.layer for row in rows} == {None, 1, 2, 3, 4, 5, 6, 7}
    layers = [r.value for r in rows if r.metric == "selectivity_index" and r.layer is not None]
    (mean,) = (r.value for r in rows if r.metric == "selectivity_index" and r.layer is None)
    assert mean == pytest.approx(sum(layers) / 7)
    assert [r.value for r in rows if r.metric == "units"] == [8, 8, 8, 16, 16, 32, 32]
    assert all(row.n == 40 for row in rows)
