"""Randomised smoothing: closed forms for a linear network, and coverage in known worlds."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

import selbench
from selbench._kit.errors import SelbenchError
from selbench.bounds.smoothing import ABSTAINS, _certified, least_share, smoothed
from selbench.datasets.dataset import make_split
from selbench.store import open_studies
from selbench.study import SmoothingSpec
from selbench.suites import SUITES, Setting
from selbench.suites.attacked import L2_EPSILONS
from selbench.suites.smoothing import classifier
from selbench.tables import current_rows, leaderboard

SIGMA = 0.25


class HalfSpace(nn.Module):
    """Class 1 where the first value of an image is above 0.5."""

    def forward(self, images):
        side = images.flatten(1)[:, :1] - 0.5
        return torch.cat([-side, side], 1)


@pytest.fixture
def images():
    images = torch.full((4, 3, 2, 2), 0.5)
    images[:, 0, 0, 0] = torch.tensor([0.1, 0.5, 0.7, 1.0])
    return images


def test_a_half_space_is_certified_up_to_it_but_for_what_the_draws_leave_open(images):
    found = smoothed(HalfSpace(), images, torch.arange(4), SIGMA, choosing=20, counting=400)
    assert found.prediction.tolist() == [0, ABSTAINS, 1, 1]
    assert (found.radius <= (images[:, 0, 0, 0] - 0.5).abs()).all()
    assert found.radius[1] == 0
    share = norm.cdf(0.2 / SIGMA)  # of votes, of the third image; 400 draws leave 3 deviations open
    expected = SIGMA * norm.ppf(share - 3.09 * (share * (1 - share) / 400) ** 0.5)
    assert found.radius[2] == pytest.approx(expected, abs=0.04)


def test_an_image_has_the_same_noise_whatever_it_is_in_a_batch_with(images):
    whole = smoothed(HalfSpace(), images, torch.arange(4), SIGMA, choosing=5, counting=50)
    part = smoothed(HalfSpace(), images[2:], torch.arange(2, 4), SIGMA, choosing=5, counting=50)
    assert torch.equal(whole.radius[2:], part.radius)
    other = smoothed(HalfSpace(), images[2:], torch.arange(5, 7), SIGMA, choosing=5, counting=50)
    assert not torch.equal(part.radius, other.radius)


def test_the_bound_of_all_votes_is_the_root_of_the_risk():
    assert least_share(np.array([10, 0]), 10, 0.05).tolist() == pytest.approx([0.05**0.1, 0])


@pytest.mark.parametrize("share", [0.5, 0.6, 0.9, 0.999])
@pytest.mark.parametrize(("counting", "risk"), [(100, 0.05), (1000, 0.001)])
def test_radii_exceed_the_true_one_no_more_often_than_the_risk(share, counting, risk):
    votes = np.arange(counting + 1)
    both = torch.from_numpy(np.stack([votes, counting - votes], 1))
    found = _certified(torch.zeros(counting + 1, dtype=torch.int64), both, SIGMA, risk)
    wrong = found.radius.numpy() > SIGMA * norm.ppf(share)
    exact = binom.pmf(votes, counting, share)[wrong].sum()  # over all outcomes: no simulation error
    assert exact <= risk
    drawn = np.random.default_rng(0).binomial(counting, share, 20_000)
    assert wrong[drawn].mean() <= risk + 4 * (risk / 20_000) ** 0.5


class Rectified(HalfSpace):
    """The same, by a ReLU."""

    def forward(self, images):
        side = images.flatten(1)[:, :1] - 0.5
        return torch.cat([(-side).relu(), side.relu()], 1)


@pytest.fixture(scope="module")
def data():
    images = torch.full((6, 3, 2, 2), 128, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor([0, 128, 150, 200, 255, 255])
    return images, torch.tensor([0, 0, 1, 1, 1, 0])


def quickly(*args, **draws):
    return smoothed(*args, choosing=10, counting=100)


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_HOME", str(root / "home"))
        patch.setattr("selbench.suites.smoothing.smoothed", quickly)
        selbench.evaluate(Rectified(), data, "smoothing", name="half", store=root / "store")
    (found,) = open_studies(root / "store")
    return found


def test_an_image_counts_where_its_class_is_certified_for_the_radius(store, data):
    images, labels = data
    found = quickly(Rectified(), images.float() / 255, torch.arange(6), SIGMA)
    rows = current_rows(store)
    own = rows[rows["suite"] == "smoothing"].pivot(index="level", columns="metric", values="value")
    right = [
        ((found.prediction == labels) & (found.radius >= level / 255)).double().mean().item()
        for level in L2_EPSILONS
    ]
    assert own["accuracy"].tolist() == pytest.approx(right)
    assert right[-1] == 0 < right[-2] < right[0] < 1
    for name, expected in (
        ("abstained", found.prediction < 0),
        ("accuracy", found.prediction == labels),
    ):
        assert 0 < expected.sum() < 6
        share = expected.double().mean().item()
        assert own[f"smoothed_{name}"].unique().tolist() == pytest.approx([share])
    assert not {name for name in own if name.startswith("ece")}


def test_the_smoothed_network_has_a_row_of_its_own(store):
    board = leaderboard(store)
    table = board.table.set_index("subject")
    assert list(table.index) == ["half", "half smoothed 0.25 (1,000 draws)"]
    network, noisy = table.iloc[0], table.iloc[1]
    assert np.isnan(network["smoothed_certified_l2"])
    assert np.isnan(noisy["clean"])
    assert 0 < noisy["smoothed_certified_l2"] <= noisy["smoothed_accuracy"] < 1
    assert noisy["smoothed_certified_l2_interval"] > 0
    assert noisy["networks"] == 1
    (same, *rest) = leaderboard(store, shared=True).table["subject"]
    assert (same, rest) == ("half", [])


def test_each_sigma_and_number_of_draws_is_a_condition():
    spec = SmoothingSpec(sigmas=(0.12, 0.5), draws=50)
    pieces = SUITES["smoothing"](Setting(8, 8, smoothing=spec))
    names = [each.name for each in pieces if each.suite == "smoothing"]
    assert names == ["sigma-0.12-draws-50", "sigma-0.5-draws-50"]
    four = make_split(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    assert pieces[-1].passes(Rectified(), four, 2, None).forward == 4 * 55


@pytest.mark.parametrize("sigma", [0.25, 1.0, 1e-05, 0.12345678])
def test_every_sigma_has_a_name_of_its_own(sigma):
    spec = SmoothingSpec(sigmas=(sigma, sigma * (1 + 1e-7)), draws=1000)
    *_, one, other = SUITES["smoothing"](Setting(8, 8, smoothing=spec))
    assert one.name != other.name
    assert classifier(one.name) == f"smoothed {sigma:.8g} (1,000 draws)"


def test_sigma_and_draws_are_arguments_and_the_manifest_has_them(data, tmp_path):
    rows = selbench.evaluate(
        Rectified(), data, "smoothing", sigma=[0.5, 0.12], draws=10, name="half", store=tmp_path
    )
    own = rows[rows["suite"] == "smoothing"]
    assert set(own["condition"]) == {"sigma-0.5-draws-10", "sigma-0.12-draws-10"}
    (found,) = open_studies(tmp_path)
    assert found.manifest()["study"]["smoothing"] == {"sigmas": [0.5, 0.12], "draws": 10}


@pytest.mark.soak
def test_the_command_smooths_a_checkpoint_with_the_sigma_of_its_option(
    selbench, tiny_study, checkpoint
):
    words = [
        "run",
        tiny_study,
        "--checkpoint",
        checkpoint,
        "--suite",
        "smoothing",
        "--limit",
        "4",
        "--format",
        "csv",
    ]
    done = selbench(*words, "--sigma", "0.5,0.25", "--draws", "20")
    assert done.code == 0, done.err
    assert "smoothed 0.5 (20 draws)" in done.out
    assert "smoothed 0.25 (20 draws)" in done.out
    again = selbench(*words, "--sigma", "0.5", "--draws", "20")
    assert "nothing new to evaluate" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "smoothing", "--sigma", "0"], "--sigma 0.0: input should be greater than 0"),
        (["--suite", "smoothing", "--sigma", "-1"], "--sigma -1.0: input should be greater than 0"),
        (["--suite", "smoothing", "--sigma", "nan"], "--sigma nan: input should be a finite"),
        (["--suite", "smoothing", "--sigma", "0.1,x"], "--sigma takes numbers such as 0.25"),
        (["--suite", "smoothing", "--draws", "3"], "--draws 3: input should be greater than or"),
        (["--suite", "probability", "--error", "2"], "--error 2.0: input should be less than or"),
        (["--suite", "probability", "--method", "x"], "--method 'x': input should be 'interval'"),
        (["--sigma", "0.5"], "--sigma is for the suite smoothing; add --suite smoothing, or leave"),
        (["--suite", "bounds", "--confidence", "0.9"], "--confidence is for the suite probability"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(refused, words, message):
    assert refused("run", *words).startswith(message)


def test_python_names_the_argument_and_not_the_option(data):
    with pytest.raises(SelbenchError, match=r"^sigma=0: input should be greater than 0"):
        selbench.evaluate(Rectified(), data, "smoothing", sigma=0)
