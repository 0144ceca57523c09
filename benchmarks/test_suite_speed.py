"""Evaluating five networks under corruptions, beside the bare forward passes it must do."""

from itertools import count

import torch

from selbench._engine import evaluate
from selbench.datasets.dataset import Dataset, make_split
from selbench.models import build_model
from selbench.networks.network import Network
from selbench.store import StudyStore
from selbench.study import ModelSpec
from selbench.suites import Setting, collect

NETWORKS, IMAGES, BATCH = 5, 500, 250
MOMENTS = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network(seed):
    torch.manual_seed(seed)
    return build_model(ModelSpec(name="resnet20"), 10, MOMENTS).to(DEVICE).eval()


def subject(seed):
    model = network(seed)
    return Network(f"alpha=0 seed={seed}", 0.0, seed, "t", "resnet20", f"w{seed}", lambda: model)


def test_suite_beside_its_bare_forward_passes(race, tmp_path):
    """Target: the suite takes at most 1.3 times as long, so a ratio of at least 1 / 1.3."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = make_split(pixels, torch.arange(IMAGES) % 10)
    dataset = Dataset("noise", tuple("0123456789"), split, split)
    # One severity of each: a fifth of the suite, to fit several rounds.
    pieces = [piece for piece in collect(("corruptions-all",), Setting(32, 32)) if piece.level == 3]
    subjects = [subject(seed) for seed in range(NETWORKS)]
    models = [each.load() for each in subjects]
    images = (split.images[:BATCH].to(DEVICE).float() / 255).contiguous(
        memory_format=torch.channels_last
    )

    fresh = count()

    def suite():
        store = StudyStore(tmp_path / str(next(fresh)), "study")
        assert evaluate(subjects, pieces, dataset, store, DEVICE) == NETWORKS * len(pieces)

    @torch.inference_mode()
    def forward_passes():
        for _ in range(len(pieces) * IMAGES // BATCH):
            for model in models:
                model(images).argmax(1).cpu()

    assert race(suite, forward_passes, rounds=5) >= 1 / 1.3
