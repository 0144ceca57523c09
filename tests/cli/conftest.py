"""Quick runs of the command line, what they evaluate, and a network to bring."""

import pytest
import torch

from selbench import engine
from selbench.models import build_model
from selbench.study import load_study


@pytest.fixture
def evaluated(monkeypatch):
    """Record the name and level of every condition that is evaluated."""
    seen = []
    genuine = engine.run_condition

    def recording(condition, *rest):
        seen.append((condition.name, condition.level))
        return genuine(condition, *rest)

    monkeypatch.setattr(engine, "run_condition", recording)
    return seen


@pytest.fixture
def checkpoint(tiny_study, tmp_path):
    """Save the weights of an untrained network of the study's architecture."""
    torch.manual_seed(1)
    study = load_study(str(tiny_study))
    model = build_model(study.model, 3, ((0, 0, 0), (1, 1, 1)))
    torch.save(model.network.state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"
