"""The engine: outcomes, sharing of perturbed batches, caching of cells, interruption."""

import dataclasses
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from selbench._engine import evaluate
from selbench._kit import chunks
from selbench._kit.progress import Progress
from selbench.attacks.gradient import Attacked
from selbench.datasets.dataset import Dataset, limited, make_split
from selbench.networks.network import Network
from selbench.request import Request
from selbench.session import Session
from selbench.store import StudyStore
from selbench.store.outcomes import outcome
from selbench.suites import Attack, Condition, Setting, attacking, bench, collect
from selbench.suites.bench import run_condition
from selbench.suites.index import class_index

CPU = torch.device("cpu")
CLASSES = 5
SMALL = Setting(32, 32)
LIGHT = [*collect(("clean",), SMALL), *class_index(SMALL)]  # a condition and an analysis


class Linear(nn.Module):
    """A network quick enough to be run often; each seed is another one."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(CLASSES, 3 * 32 * 32, generator=generator))

    def forward(self, images):
        return F.relu(images).flatten(1) @ self.weight.T


class Diverged(Linear):
    def forward(self, images):
        return super().forward(images * torch.nan)


def subject(seed):
    return Network(
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
    truth = torch.eye(3)[[0, 2]]
    torch.testing.assert_close(result["brier"], ((probabilities - truth) ** 2).sum(1))


def test_margin_is_positive_exactly_where_the_prediction_is_right():
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 10
    result = outcome(logits, labels)
    assert torch.equal(result["margin"] > 0, result["prediction"] == labels)


def test_outcomes_do_not_depend_on_the_batch_size(dataset, monkeypatch):
    noise = collect(("corruptions",), SMALL)[2]
    assert isinstance(noise, Condition)
    whole = run_condition(noise.perturb, [Linear(0)], dataset.test, silent)[0]
    monkeypatch.setitem(chunks.BATCH, "cpu", 70)
    parts = run_condition(noise.perturb, [Linear(0)], dataset.test, silent)[0]
    for name, column in whole.items():
        torch.testing.assert_close(parts[name], column, rtol=1e-4, atol=1e-3)


def test_logits_of_many_classes_take_too_much_room(dataset, monkeypatch):
    plain = condition(lambda images, examples: images)
    (few,) = run_condition(plain.perturb, [Linear(0)], dataset.test, silent)
    assert torch.equal(few["logits"].argmax(1), few["prediction"])
    monkeypatch.setattr(bench, "KEPT_CLASSES", few["logits"].shape[1] - 1)
    (many,) = run_condition(plain.perturb, [Linear(0)], dataset.test, silent)
    assert set(few) - set(many) == {"logits"}


class Crowded(Linear):
    """Needs more memory than there is for more than 50 images."""

    def forward(self, images):
        if len(images) > 50:
            raise torch.OutOfMemoryError
        return super().forward(images)


def test_batches_of_forward_passes_are_halved_where_memory_does_not_suffice(dataset, monkeypatch):
    monkeypatch.setitem(chunks.BATCH, "cpu", 250)
    plain = condition(lambda images, examples: images)
    (whole,) = run_condition(plain.perturb, [Linear(0)], dataset.test, silent)
    with pytest.warns(RuntimeWarning) as told:
        (parts,) = run_condition(plain.perturb, [Crowded(0)], dataset.test, silent)
    assert "31 images at once from now on instead of 62" in str(told[-1].message)
    assert chunks.BATCH["cpu"] == 250  # other networks may need less
    for name, column in whole.items():
        torch.testing.assert_close(parts[name], column, rtol=1e-4, atol=1e-3)


def test_fewer_images_are_perturbed_at_once_where_memory_does_not_suffice(dataset, monkeypatch):
    monkeypatch.setitem(chunks.BATCH, "cpu", 250)
    made = []

    def perturb(images, examples):
        if len(images) > 50:  # as if another program held the rest of a GPU's memory
            raise torch.OutOfMemoryError
        made.append(examples)
        return images + examples.view(-1, 1, 1, 1).to(torch.uint8)

    with pytest.warns(RuntimeWarning) as told:
        found = bench.perturbed(perturb, dataset.test)
    assert "31 images at once from now on instead of 62" in str(told[-1].message)
    offsets = dataset.test.examples.view(-1, 1, 1, 1).to(torch.uint8)
    assert torch.equal(found, dataset.test.images + offsets)
    assert torch.equal(torch.cat(made), dataset.test.examples)
    with pytest.warns(RuntimeWarning):
        run_condition(perturb, [Linear(0)], dataset.test, silent)


def test_each_perturbed_batch_is_made_once_for_all_networks(dataset):
    made = []

    def perturb(images, examples):
        made.append(len(examples))
        return images

    run_condition(perturb, [Linear(seed) for seed in range(4)], dataset.test, silent)
    assert sum(made) == len(dataset.test)


def test_a_network_of_nans_is_evaluated_and_what_is_not_finite_left_out(dataset, store):
    bad = dataclasses.replace(subject(0), load=lambda: Diverged(0))
    message = r"^alpha=0 seed=0 is left out of selectivity: layer 1 .* returns NaN or infinity"
    with pytest.warns(RuntimeWarning, match=message):
        evaluate([bad], LIGHT, dataset, store, CPU)
    rows = store.measurements()
    assert set(rows["metric"]) == {"accuracy"}
    assert rows["value"].notna().all()
    assert evaluate([bad], LIGHT, dataset, store, CPU) == 0


def test_a_second_run_evaluates_nothing(dataset, store):
    pieces = LIGHT
    assert evaluate([subject(0), subject(1)], pieces, dataset, store, CPU) == 4
    assert evaluate([subject(0), subject(1)], pieces, dataset, store, CPU) == 0


def test_only_what_is_missing_is_evaluated(dataset, store):
    clean = collect(("clean",), SMALL)
    evaluate([subject(0)], clean, dataset, store, CPU)
    assert evaluate([subject(0), subject(1)], clean, dataset, store, CPU) == 1
    assert evaluate([subject(0)], clean, dataset, store, CPU, Request(limit=100)) == 1


@pytest.mark.soak
def test_adding_a_network_later_gives_the_numbers_of_evaluating_it_at_once(dataset, tmp_path):
    pieces = collect(("corruptions",), SMALL)[:12]
    together, apart = (StudyStore(tmp_path / name, "study") for name in ("together", "apart"))
    evaluate([subject(0), subject(1)], pieces, dataset, together, CPU, Request(limit=60))
    for each in (subject(0), subject(1)):
        evaluate([each], pieces, dataset, apart, CPU, Request(limit=60))
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
    evaluate([subject(0)], [noise], dataset, store, CPU, Request(limit=100))
    losses = store.outcomes().to_pandas().groupby("example")["loss"]
    twice = losses.agg(["count", "min", "max"]).query("count == 2")
    assert len(twice) == 100
    assert (twice["max"] - twice["min"]).max() < 1e-3


class Recorder(Progress):
    """Sums the pieces announced and, with the other sign, those done."""

    def __init__(self):
        self.left = 0

    @contextmanager
    def track(self, task, pieces, done=0):
        self.done, self.left = done, self.left + pieces - done

        def step(pieces=1, note=""):
            self.left -= pieces

        yield step


def test_trained_networks_count_as_done_before_training_begins(tiny_study):
    recorder = Recorder()
    for seeds, done in (["51"], 0), (["51", "52"], 2), (["51", "52"], 4):  # of two epochs each
        Session.open(str(tiny_study), ["0"], seeds, "cpu", None, recorder).train()
        assert (recorder.done, recorder.left) == (done, 0)


def test_progress_adds_up_to_what_was_announced(dataset, store):
    recorder = Recorder()
    pieces = LIGHT
    evaluate([subject(0), subject(1)], pieces, dataset, store, CPU, progress=recorder)
    assert recorder.left == 0
    assert len(store.keys()) == 4


# Attacks, which take one network at a time.


def fell(images, labels, levels):
    """Return what an attack makes that fools a network about the first images, more at each."""
    results = []
    for number in range(1, len(levels) + 1):
        fallen = torch.arange(len(labels)) < number
        logits = F.one_hot((labels + fallen) % CLASSES, CLASSES).float()
        results.append(Attacked(images + 0.1 * number, logits, fallen, fallen.long()))
    return results


def an_attack(**facts):
    levels = (1.0, 2.0, 4.0)

    def run(network, images, labels, examples):
        return fell(images, labels, levels)

    return Attack(
        **({"suite": "attacks", "name": "test", "budgets": levels, "attack": run} | facts)
    )


def test_an_attack_makes_a_cell_for_every_level(dataset, store):
    assert evaluate([subject(0), subject(1)], [an_attack()], dataset, store, CPU) == 6
    rows = store.measurements()
    rows = rows[rows["metric"] == "accuracy"]
    for _, part in rows.groupby("subject"):
        assert part["level"].tolist() == [1, 2, 4]
        assert part["value"].tolist() == pytest.approx([599 / 600, 598 / 600, 597 / 600])
    assert evaluate([subject(0), subject(1)], [an_attack()], dataset, store, CPU) == 0
    assert store.outcomes().num_rows == 6 * 600
    # An attack stops where the network errs: its confidences are no statement of the network's.
    assert set(store.measurements()["metric"]) == {
        "accuracy",
        "confidence",
        "cross_entropy",
        "brier",
        "passes_forward",
        "passes_gradient",
    }


def test_an_attack_sees_the_images_in_groups_and_in_order(dataset, store, monkeypatch):
    seen = []

    def run(network, images, labels, examples):
        seen.append((examples.tolist(), images.dtype, images.max() <= 1))
        return fell(images, labels, (1.0,))

    monkeypatch.setattr(attacking, "GROUP", 250)
    evaluate([subject(0)], [an_attack(attack=run, budgets=(1.0,))], dataset, store, CPU)
    assert [each for examples, *_ in seen for each in examples] == list(range(600))
    assert [len(examples) for examples, *_ in seen] == [250, 250, 100]
    assert all(dtype == torch.float32 and small for _, dtype, small in seen)


def test_an_interrupted_run_loses_the_attack_in_flight_only(dataset, store):
    def interrupted(network, images, labels, examples):
        raise KeyboardInterrupt

    pieces = [an_attack(), an_attack(name="other", attack=interrupted)]
    with pytest.raises(KeyboardInterrupt):
        evaluate([subject(0)], pieces, dataset, store, CPU)
    assert len(store.keys()) == 3
    assert evaluate([subject(0)], [an_attack(), an_attack(name="other")], dataset, store, CPU) == 3


def test_saved_adversarials_lie_beside_their_clean_images(dataset, store):
    evaluate([subject(0)], [an_attack()], dataset, store, CPU)
    assert evaluate([subject(0)], [an_attack()], dataset, store, CPU, request=Request(save=4)) == 3
    (path,) = (store.folder / "adversarials").iterdir()
    saved = load_file(path)
    clean = dataset.test.images[:4].float() / 255
    assert torch.equal(saved["clean"], clean)
    assert torch.equal(saved["adversarial 2"], clean + 0.2)
    labels = dataset.test.labels[:4]
    assert torch.equal(saved["label"], labels)
    assert (saved["prediction 2"] != labels).tolist() == [True, True, False, False]
    assert evaluate([subject(0)], [an_attack()], dataset, store, CPU, request=Request(save=4)) == 0


def test_a_transfer_attack_takes_the_network_most_like_the_subject(dataset, store):
    pairs = []

    def run(network, source, images, labels, examples):
        pairs.append((network.weight[0, 0].item(), source.weight[0, 0].item()))
        return fell(images, labels, (1.0,))

    other = dataclasses.replace(subject(2), alpha=1.0, name="alpha=1 seed=2")
    piece = an_attack(attack=run, budgets=(1.0,), transfer=True)
    evaluate([subject(0), subject(1), other], [piece], dataset, store, CPU)
    first = [Linear(seed).weight[0, 0].item() for seed in range(3)]
    assert pairs == [(first[0], first[1]), (first[1], first[0]), (first[2], first[1])]
    assert set(store.measurements()["helper"]) == {"w0", "w1"}


def test_a_transfer_attack_on_the_only_subject_is_left_out(dataset, store):
    assert evaluate([subject(0)], [an_attack(transfer=True)], dataset, store, CPU) == 0


def test_more_adversarials_or_those_of_other_images_are_made_when_asked_for(dataset, store):
    options = {"networks": [subject(0)], "pieces": [an_attack()], "dataset": dataset}
    options |= {"store": store, "device": CPU}
    assert evaluate(**options, request=Request(save=4)) == 3
    assert evaluate(**options, request=Request(save=3)) == 0
    assert evaluate(**options, request=Request(save=5)) == 3
    assert evaluate(**options, request=Request(save=5, limit=50)) == 3
    files = list((store.folder / "adversarials").iterdir())
    assert sorted(len(load_file(path)["label"]) for path in files) == [5, 5]
    assert evaluate(**options, request=Request(save=99, limit=50)) == 3  # there are no more than 50
    assert evaluate(**options, request=Request(save=99, limit=50)) == 0
