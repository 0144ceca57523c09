"""Networks are moved to a GPU once, whatever is done with them there."""

import pytest
import torch
from stand_in import DEVICE
from torch import nn

from selbench import evaluate
from selbench._kit.progress import SILENT
from selbench.datasets.dataset import Dataset, make_split
from selbench.networks import probe
from selbench.networks.adhoc import untrained_study
from selbench.networks.loading import network_of
from selbench.session import Session
from selbench.store import StudyStore

MOVED = []  # where the network lay after each move


class Carried(nn.Module):
    """Tells where it is moved; its outputs are random, so several draws of it are evaluated."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3)

    def _apply(self, fn, recurse=True):
        before = self.layer.weight.device
        made = super()._apply(fn, recurse)
        if self.layer.weight.device != before:
            MOVED.append(self.layer.weight.device)
        return made

    def forward(self, images):
        logits = self.layer(images).relu().mean((2, 3))
        return logits + torch.rand(logits.shape, device=logits.device)


def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (24, 3, 16, 16), generator=generator).to(torch.uint8)
    return pixels, torch.arange(24) % 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_all_suites_and_draws_use_a_network_that_was_moved_once(gpu, monkeypatch):
    monkeypatch.setattr("selbench.evaluation.choose_device", lambda name: DEVICE)
    MOVED.clear()
    suites = ["corruptions", "jacobian"]
    chosen = {"corruptions": "contrast", "scale": 32}
    found = evaluate(Carried(), images(), suites, **chosen)
    assert found["subject"].nunique() > 1
    assert MOVED == [DEVICE]


def test_a_session_probes_a_network_once(monkeypatch, tmp_path):
    probed, genuine = [], probe.habits_of
    monkeypatch.setattr(probe, "habits_of", lambda *given: probed.append(1) or genuine(*given))
    split = make_split(*images())
    dataset = Dataset("given", ("a", "b", "c"), split, split)
    session = Session(untrained_study("given", "given"), dataset, torch.device("cpu"), SILENT)
    network, store = network_of(Carried(), "mine", dataset), StudyStore(tmp_path, "given")
    first, again = (session.probed([network], store) for _ in range(2))
    assert [each.findings for each in first] == [each.findings for each in again]
    assert len(first) > 1
    assert probed == [1]
