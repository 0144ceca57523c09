"""The engine: outcomes, sharing of perturbed batches, caching of cells, interruption."""

import dataclasses
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench import engine
from selbench.datasets.dataset import Dataset, make_split
from selbench.engine import evaluate, limited, outcome, run_condition
from selbench.progress import Progress
from selbench.store import StudyStore
from selbench.subjects import Subject
from selbench.suites import Condition, Setting, collect

CPU = torch.device("cpu")
CLASSES = 5
SMALL = Setting(32, 32)


class Linear(nn.Module):
    """A network quick enough to be run often; each seed is another one."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(CLASSES, 3 * 32 * 32, generator=generator))

    def forward(self, images):
        return F.relu(images).flatten(1) @ self.weight.T


def subject(seed):
    return Subject(
        name=f"alpha=0 seed={seed}",
        alpha=0.0,
        seed=seed,
        training="t",
        architecture="linear",
        weights=f"w{seed}",
        load=lambda: Linear(seed),
    )


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (600, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = make_split(pixels, torch.arange(600) % CLASSES)
    return Dataset("noise", tuple("abcde"), split, split)


@pytest.fixture
def store(tmp_path):
    return StudyStore(tmp_path / "runs", "study")


def silent(pieces=1, note=""):
    pass


def condition(perturb):
    return Condition("corruptions", "test", perturb, level=1, group="noise", source="generated")


def test_outcome_equals_its_definitions():
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])
    result = outcome(logits, torch.tensor([0, 2]))
    assert result["prediction"].tolist() == [0, 1]
    assert result["margin"].tolist() == [1.0, -2.0]
    probabilities = logits.softmax(1)
    torch.testing.assert_close(result["confidence"], probabilities.amax(1))
    own = torch.stack([probabilities[0, 0], probabilities[1, 2]])
    torch.testing.assert_close(result["loss"], -own.log())


def test_margin_is_positive_exactly_where_the_prediction_is_right():
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 10
    result = outcome(logits, labels)
    assert torch.equal(result["margin"] > 0, result["prediction"] == labels)


def test_outcomes_do_not_depend_on_the_batch_size(dataset, monkeypatch):
    noise = collect(("corruptions",), SMALL)[2]
    assert isinstance(noise, Condition)
    whole = run_condition(noise, [Linear(0)], dataset.test, silent)[0]
    monkeypatch.setitem(engine.BATCH, "cpu", 70)
    parts = run_condition(noise, [Linear(0)], dataset.test, silent)[0]
    for name, column in whole.items():
        torch.testing.assert_close(parts[name], column, rtol=1e-4, atol=1e-3)


def test_each_perturbed_batch_is_made_once_for_all_networks(dataset):
    made = []

    def perturb(images, examples):
        made.append(len(examples))
        return images

    run_condition(condition(perturb), [Linear(seed) for seed in range(4)], dataset.test, silent)
    assert sum(made) == len(dataset.test)


def test_a_network_of_nans_is_evaluated_and_what_is_not_finite_left_out(dataset, store):
    broken = Linear(0)
    broken.weight.data.fill_(torch.nan)
    bad = dataclasses.replace(subject(0), load=lambda: broken)
    evaluate([bad], collect(("clean", "selectivity"), SMALL), dataset, store, CPU)
    rows = store.measurements()
    assert set(rows["metric"]) >= {"accuracy", "dead_units"}
    assert rows["value"].notna().all()
    assert evaluate([bad], collect(("clean", "selectivity"), SMALL), dataset, store, CPU) == 0


def test_a_second_run_evaluates_nothing(dataset, store):
    pieces = collect(("clean", "selectivity"), SMALL)
    assert evaluate([subject(0), subject(1)], pieces, dataset, store, CPU) == 4
    assert evaluate([subject(0), subject(1)], pieces, dataset, store, CPU) == 0


def test_only_what_is_missing_is_evaluated(dataset, store):
    clean = collect(("clean",), SMALL)
    evaluate([subject(0)], clean, dataset, store, CPU)
    assert evaluate([subject(0), subject(1)], clean, dataset, store, CPU) == 1
    assert evaluate([subject(0)], clean, dataset, store, CPU, limit=100) == 1


def test_adding_a_network_later_gives_the_numbers_of_evaluating_it_at_once(dataset, tmp_path):
    pieces = collect(("corruptions",), SMALL)[:12]
    together, apart = (StudyStore(tmp_path / name, "study") for name in ("together", "apart"))
    evaluate([subject(0), subject(1)], pieces, dataset, together, CPU, limit=60)
    for each in (subject(0), subject(1)):
        evaluate([each], pieces, dataset, apart, CPU, limit=60)
    assert together.measurements().equals(apart.measurements())


def test_an_interruption_loses_the_condition_in_flight_and_no_more(dataset, store):
    calls = []

    def perturb(images, examples):
        calls.append(1)
        if len(calls) == 5:  # three batches a condition: in the second one
            raise KeyboardInterrupt
        return images

    pieces = [
        Condition("corruptions", "test", perturb, level=level, group="noise", source="generated")
        for level in range(1, 4)
    ]
    with pytest.raises(KeyboardInterrupt):
        evaluate([subject(0)], pieces, dataset, store, CPU)
    assert sorted(store.measurements()["level"].unique()) == [1]
    assert evaluate([subject(0)], pieces, dataset, store, CPU) == 2
    assert len(calls) == 5 + 2 * 3


def test_accuracy_is_that_of_the_kept_outcomes(dataset, store):
    evaluate([subject(0)], collect(("clean",), SMALL), dataset, store, CPU)
    rows = store.measurements().set_index("metric")
    outcomes = store.outcomes().to_pandas()
    assert len(outcomes) == rows.loc["accuracy", "n"] == 600
    assert rows.loc["accuracy", "value"] == (outcomes["prediction"] == outcomes["label"]).mean()
    assert rows.loc["cross_entropy", "value"] == pytest.approx(outcomes["loss"].mean(), rel=1e-5)
    model = Linear(0)
    logits = model(dataset.test.images.float() / 255)
    assert outcomes["prediction"].tolist() == logits.argmax(1).tolist()


def test_a_limit_takes_nested_stratified_subsets(dataset):
    small, large = limited(dataset.test, 50), limited(dataset.test, 200)
    assert set(small.examples.tolist()) < set(large.examples.tolist())
    assert small.labels.bincount().tolist() == [10] * 5
    assert torch.equal(small.images, dataset.test.images[small.examples])
    assert limited(dataset.test, 600) is dataset.test
    assert limited(dataset.test, None) is dataset.test


def test_a_limited_run_corrupts_each_image_as_the_whole_run_does(dataset, store):
    noise = collect(("corruptions",), SMALL)[2]
    evaluate([subject(0)], [noise], dataset, store, CPU)
    evaluate([subject(0)], [noise], dataset, store, CPU, limit=100)
    losses = store.outcomes().to_pandas().groupby("example")["loss"]
    twice = losses.agg(["count", "min", "max"]).query("count == 2")
    assert len(twice) == 100
    assert (twice["max"] - twice["min"]).max() < 1e-3


class Recorder(Progress):
    """Sums the pieces announced and, with the other sign, those done."""

    def __init__(self):
        self.left = 0

    @contextmanager
    def track(self, task, pieces):
        self.left += pieces

        def step(pieces=1, note=""):
            self.left -= pieces

        yield step


def test_progress_adds_up_to_what_was_announced(dataset, store):
    recorder = Recorder()
    pieces = collect(("clean", "selectivity"), SMALL)
    evaluate([subject(0), subject(1)], pieces, dataset, store, CPU, progress=recorder)
    assert recorder.left == 0
    assert len(store.keys()) == 4
