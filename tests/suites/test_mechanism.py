"""The suites that explain: what they report of each layer, of parts, and under perturbations."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from corruptions import CORRUPTIONS, corrupt
from selbench._engine import evaluate
from selbench._kit.errors import SelbenchError
from selbench._kit.types import to_images
from selbench.analyses.axes import best_axes, rotated_selectivity
from selbench.analyses.dimensionality import dimensionality, perturbed_dimensionality
from selbench.analyses.elasticity import contrast, local_elasticity
from selbench.analyses.gradients import input_gradients
from selbench.analyses.jacobian import jacobian_norms
from selbench.analyses.selectivity import class_selectivity
from selbench.attacks.gradient import pgd
from selbench.attacks.norms import NORMS
from selbench.datasets.dataset import Dataset, limited, make_split
from selbench.models import build_model
from selbench.networks.network import Network
from selbench.request import Request
from selbench.selectivity import RecordedUnits
from selbench.store import Measurement, StudyStore
from selbench.study import MechanismSpec, ModelSpec
from selbench.suites import SUITES, Analysis, Comparison, Setting, collect
from selbench.suites.layered import summarised

pytestmark = pytest.mark.long(12)

SMALL = Setting(32, 32)
LAYERS = 7


def network(seed=0):
    torch.manual_seed(seed)
    model = build_model(
        ModelSpec(name="resnet8", options={"width": 4}), 4, ((0.5,) * 3, (0.25,) * 3)
    )
    for module in model.modules():  # as after some training: no two units alike
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def split():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(40, 3, 4, 4, generator=generator)
    smooth = F.interpolate(low, size=(32, 32), mode="bilinear")
    return make_split((255 * smooth).to(torch.uint8), torch.arange(40) % 4)


@pytest.fixture(scope="module")
def few(split):
    """Return four images of each class, for what looks at each image again and again."""
    return limited(split, 16)


def piece(suite, name="clean", kind=Analysis, setting=SMALL):
    (found,) = (p for p in SUITES[suite](setting) if p.name == name and isinstance(p, kind))
    return found


def table(rows):
    return pd.DataFrame([vars(row) for row in rows])


def of_layers(rows, metric):
    found = table(rows).query("metric == @metric and layer.notna()")
    assert list(found["layer"]) == list(range(1, len(found) + 1))
    return list(found["value"])


def of_network(rows, metric):
    (value,) = table(rows).query("metric == @metric and layer.isna()")["value"]
    return value


def test_mechanism_is_all_of_them():
    together = {(p.suite, p.name) for p in SUITES["mechanism"](SMALL)}
    apart = ("selectivity", "dimensionality", "gradients", "jacobian", "elasticity", "clean")
    assert together == {(p.suite, p.name) for name in apart for p in SUITES[name](SMALL)}


def test_representations_are_compared_under_every_corruption_and_pgd():
    compared = [p for p in SUITES["dimensionality"](SMALL) if isinstance(p, Comparison)]
    assert {p.name for p in compared} == {n for n, each in CORRUPTIONS.items() if not each.bar}
    assert all(p.levels == (1, 2, 3, 4, 5) for p in compared)
    assert piece("dimensionality", "paper-pgd").suite == "representation"


def test_selectivity_is_told_of_every_layer_of_parts_and_of_the_network(split):
    rows = piece("selectivity").measure(network(), split, 4)
    layers = class_selectivity(network(), split.images, split.labels)
    means = of_layers(rows, "selectivity_index")
    assert means == pytest.approx([each.index.mean().item() for each in layers])
    assert of_network(rows, "selectivity_index") == pytest.approx(sum(means) / LAYERS)
    assert of_network(rows, "selectivity_index_early") == pytest.approx(sum(means[:2]) / 2)
    assert of_network(rows, "selectivity_index_middle") == pytest.approx(sum(means[2:5]) / 3)
    assert of_network(rows, "selectivity_index_late") == pytest.approx(sum(means[5:]) / 2)
    assert of_layers(rows, "units") == [4, 4, 4, 8, 8, 16, 16]
    assert of_network(rows, "units") == 60
    median = [each.index.quantile(0.5).item() for each in layers]
    assert of_layers(rows, "selectivity_index_p50") == pytest.approx(median)
    names = list(table(rows).query("metric == 'units' and layer.notna()")["layer_name"])
    assert names == [each.layer.name for each in layers]
    assert all(row.n == 40 for row in rows)


def test_the_null_s_interval_holds_the_null_and_tells_it_from_selectivity(split):
    rows = piece("selectivity").measure(network(), split, 4)
    for place in range(LAYERS):
        low, null, high = (
            of_layers(rows, f"selectivity_index_null{end}")[place] for end in ("_low", "", "_high")
        )
        assert low < null < high
    responses = torch.full((40, 3, 32, 32), 0.1)
    responses[torch.arange(40), split.labels % 3] = 0.9
    tuned = make_split((255 * responses).to(torch.uint8), split.labels)

    class Channels(nn.Module):
        def forward(self, images):
            return F.relu(images).mean((2, 3))

    rows = piece("selectivity").measure(Channels(), tuned, 4)
    high = of_network(rows, "selectivity_index_null_high")
    assert of_network(rows, "selectivity_index") > high


def test_other_axes_are_those_of_the_pure_functions(split):
    rows = piece("selectivity", "axes").measure(network(), split, 4)
    with torch.inference_mode(), RecordedUnits() as recorded:
        network()(to_images(split.images))
    best = best_axes(recorded.layers[3].clone(), split.labels, 4)
    held_out = of_layers(rows, "selectivity_index_best_axis_held_out")[3]
    assert held_out == pytest.approx(best.held_out.mean().item(), abs=1e-3)
    generator = torch.Generator().manual_seed(0)
    other = rotated_selectivity(recorded.layers[3].clone(), split.labels, 4, 200, generator)
    low, high = (of_layers(rows, f"selectivity_index_rotated_{end}")[3] for end in ("low", "high"))
    inside = ((other > low) & (other < high)).double().mean()
    assert inside > 0.85


def test_dimensionality_is_told_of_every_layer(split):
    rows = piece("dimensionality").measure(network(), split, 4)
    expected = dimensionality(network(), to_images(split.images))
    assert of_layers(rows, "dimension_95") == [each.components[0.95] for each in expected]
    fractions = [each.fraction(0.95) for each in expected]
    assert of_layers(rows, "dimension_fraction_95") == fractions
    ratios = [each.participation_ratio for each in expected]
    assert of_layers(rows, "participation_ratio") == pytest.approx(ratios, rel=1e-5)
    assert of_layers(rows, "columns") == [4, 4, 4, 8, 8, 16, 16]


@pytest.mark.parametrize("columns", ["units", "maps"])
@pytest.mark.sample
def test_a_comparison_is_that_of_the_corrupted_images(split, columns):
    setting = Setting(32, 32, corruptions=("fog",), mechanism=MechanismSpec(columns=columns))
    work = piece("dimensionality", "fog", Comparison, setting)
    sets = [corrupt(split.images, "fog", level, examples=split.examples) for level in (1, 5)]
    levels = work.measure(network(), split, sets, 4)
    for rows, images in zip(levels, sets, strict=True):
        perturbed, change = perturbed_dimensionality(
            network(), to_images(split.images), to_images(images), columns=columns
        )
        own = [each.fraction(0.95) for each in perturbed]
        assert of_layers(rows, "dimension_fraction_95") == own
        changed = [each.fraction(0.95) for each in change]
        assert of_layers(rows, "change_dimension_fraction_95") == changed
        neighbours = [each.two_nn for each in change]
        assert of_layers(rows, "change_two_nn") == pytest.approx(neighbours, rel=1e-3)
        if columns == "units":
            layers = class_selectivity(network(), images, split.labels)
            index = [each.index.mean().item() for each in layers]
            assert of_layers(rows, "selectivity_index") == pytest.approx(index, rel=1e-4)


@pytest.mark.soak
def test_the_attacked_images_took_every_step(few):
    rows = piece("dimensionality", "paper-pgd").measure(network(), few, 4)
    images = to_images(few.images)
    attacked = pgd(
        network(),
        images,
        few.labels,
        16 / 255,
        NORMS["linf"],
        step=1e-4,
        steps=40,
        early=False,
    ).images
    assert (attacked - images).abs().amax((1, 2, 3)).min() > 30e-4
    _, change = perturbed_dimensionality(network(), images, attacked)
    found = of_layers(rows, "change_participation_ratio")
    assert found == pytest.approx([each.participation_ratio for each in change], rel=0.05)


@pytest.fixture(scope="module")
def exact(few):
    return input_gradients(network(), to_images(few.images), estimator="exact")


@pytest.mark.parametrize("estimator", [pytest.param("probes", marks=pytest.mark.soak), "exact"])
def test_gradients_are_told_of_every_layer_with_their_error(few, exact, estimator):
    setting = Setting(32, 32, mechanism=MechanismSpec(estimator=estimator))
    work = piece("gradients", setting=setting)
    assert work.source == f"original; {estimator}"
    rows = work.measure(network(), few, 4)
    for metric, attribute in (
        ("input_gradient_norm", "norm"),
        ("input_gradient_cv_samples", "cv_across_samples"),
        ("input_gradient_cv_units", "cv_across_units"),
    ):
        errors = table(rows).query("metric == @metric and layer.notna()")["error"]
        assert errors.notna().all() == (estimator == "probes")
        expected = [getattr(each, attribute).value for each in exact]
        slack = 5 * errors.fillna(1e-6)
        assert (abs(pd.Series(of_layers(rows, metric)) - expected) <= slack.to_numpy()).all()
    late = of_layers(rows, "input_gradient_norm")[-2:]
    assert of_network(rows, "input_gradient_norm_late") == pytest.approx(sum(late) / 2)


@pytest.mark.usefixtures("few_probes")
@pytest.mark.soak
def test_networks_are_probed_side_by_side(split):
    few, work = limited(split, 4), piece("gradients")
    networks = [network(seed) for seed in range(2)]
    alone = [work.measure(each, few, 4) for each in networks]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda each: work.measure(each, few, 4), networks))
    assert together == alone


def test_the_jacobian_is_that_of_the_pure_function(split):
    rows = piece("jacobian").measure(network(), split, 4)
    found = jacobian_norms(network(), to_images(split.images))
    mean, middle = found.frobenius.mean().item(), found.distance.median().item()
    assert of_network(rows, "jacobian_frobenius") == pytest.approx(mean, rel=1e-5)
    assert of_network(rows, "margin_distance_median") == pytest.approx(middle, rel=1e-5)
    relative = found.relative.median().item()
    assert of_network(rows, "jacobian_frobenius_relative_median") == pytest.approx(relative)


def test_many_classes_have_their_jacobian_estimated(split):
    torch.manual_seed(1)
    spec = ModelSpec(name="resnet8", options={"width": 4})
    model = build_model(spec, 21, ((0.5,) * 3, (0.25,) * 3)).eval()
    rows = piece("jacobian").measure(model, limited(split, 8), 21)
    (row,) = (row for row in rows if row.metric == "jacobian_frobenius")
    exact = jacobian_norms(model, to_images(limited(split, 8).images)).frobenius.mean().item()
    assert row.error > 0
    assert abs(row.value - exact) < 5 * row.error


def test_elasticity_is_that_of_the_pure_function(split):
    few = limited(split, 12)
    rows = piece("elasticity").measure(network(), few, 4)
    found = local_elasticity(network(), to_images(few.images), few.labels)
    within = contrast(found.relative, few.labels).within
    assert of_network(rows, "elasticity_within") == pytest.approx(within)
    names = {row.metric for row in rows}
    ways = ("relative", "kernel", "pixels", "features", "logits")
    assert names >= {f"clustering_{name}" for name in ways}


class Gelu(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 6, 3)
        self.gelu = nn.GELU()
        self.linear = nn.Linear(6, 4)

    def forward(self, images):
        return self.linear(self.gelu(self.convolution(images) - 0.5).mean((2, 3)))


@pytest.mark.parametrize("suite", ["selectivity", "dimensionality", "gradients", "elasticity"])
def test_a_network_without_relus_says_how_to_name_layers(split, suite):
    message = (
        "^the network calls no ReLU or other .*; name the modules to look at with "
        "(--layers |layers=)REGEX"  # of a command, and of Python
    )
    with pytest.raises(SelbenchError, match=message):
        piece(suite).measure(Gelu(), split, 4)


@pytest.mark.usefixtures("few_probes")
def test_named_layers_are_looked_at_instead(few):
    setting = Setting(32, 32, corruptions=("fog",), mechanism=MechanismSpec(layers="gelu"))
    for suite in ("dimensionality", "gradients", "elasticity"):
        work = piece(suite, setting=setting)
        assert work.source.startswith("original; layers gelu")
        assert work.measure(Gelu(), few, 4)
    work = piece("dimensionality", "fog", Comparison, setting)
    (rows,) = work.measure(Gelu(), few, [255 - few.images], 4)
    metrics = {row.metric for row in rows}
    assert "dimension_fraction_95" in metrics
    assert "selectivity_index" not in metrics  # GELU's outputs can be negative
    with pytest.raises(SelbenchError, match=r"^layer 1 \(gelu\): unit \d responds with -"):
        piece("selectivity", setting=setting).measure(Gelu(), few, 4)


@pytest.mark.soak
def test_a_suite_of_comparisons_is_evaluated_once_and_told_by_level(few, tmp_path):
    dataset = Dataset("smooth", ("a", "b", "c", "d"), few, few)
    store = StudyStore(tmp_path, "study")
    subjects = [
        Network(f"alpha=0 seed={n}", 0.0, n, "t", "resnet8", f"w{n}", lambda n=n: network(n))
        for n in range(2)
    ]
    setting = Setting(32, 32, corruptions=("fog",))
    pieces = collect(("dimensionality",), setting)
    # Of two networks: clean, PGD, and five severities.
    assert evaluate(subjects, pieces, dataset, store, torch.device("cpu")) == 2 * (2 + 5)
    assert evaluate(subjects, pieces, dataset, store, torch.device("cpu")) == 0
    rows = store.measurements()
    fog = rows.query("condition == 'fog' and metric == 'change_two_nn' and layer == 2")
    assert list(fog["level"]) == [level for level in range(1, 6) for _ in subjects]
    assert fog["value"].nunique() == 10
    assert set(fog["suite"]) == {"representation"}


def test_a_diverged_network_is_left_out_and_the_others_are_measured(split, tmp_path):
    def broken():
        model = network()
        model.network.linear.weight.data.fill_(torch.nan)
        return model

    dataset = Dataset("smooth", ("a", "b", "c", "d"), split, split)
    subjects = [
        Network(f"alpha=0 seed={n}", 0.0, n, "t", "resnet8", f"w{n}", load)
        for n, load in enumerate((broken, network))
    ]
    pieces = [piece("jacobian"), piece("elasticity")]
    store, cpu = StudyStore(tmp_path, "s"), torch.device("cpu")
    with pytest.warns(RuntimeWarning, match="^alpha=0 seed=0 is left out of ") as warned:
        evaluate(subjects, pieces, dataset, store, cpu, Request(limit=8))
    assert len(warned) == 2
    rows = store.measurements()
    assert set(rows["subject"]) == {"alpha=0 seed=1"}
    assert set(rows["suite"]) == {"jacobian", "elasticity"}


def test_layers_without_a_number_are_left_out_of_means():
    rows = [Measurement("x", value, 9, n) for n, value in enumerate((1.0, float("nan"), 4.0), 1)]
    means = {row.metric: row.value for row in summarised(rows) if row.layer is None}
    assert means == {"x_early": 1.0, "x_late": 4.0, "x": 2.5}


def test_a_single_layer_is_told_once(split):
    setting = Setting(32, 32, mechanism=MechanismSpec(layers="layer3.0.relu"))
    rows = table(piece("selectivity", setting=setting).measure(network(), split, 4))
    assert not rows.duplicated(["metric", "layer"]).any()


@pytest.mark.usefixtures("few_probes")
@pytest.mark.soak
def test_so_many_images_at_most_are_looked_at(split, monkeypatch):
    monkeypatch.setattr("selbench.suites.gradients.IMAGES", 8)
    monkeypatch.setattr("selbench.suites.elasticity.IMAGES", 4)
    monkeypatch.setattr("selbench.suites.selectivity.EXAMINED", 20)
    counts = {"gradients": 8, "jacobian": 8, "elasticity": 8}  # two of each of four classes
    for suite, count in counts.items():
        assert {row.n for row in piece(suite).measure(network(), split, 4)} == {count}
    assert {row.n for row in piece("selectivity", "axes").measure(network(), split, 4)} == {20}
