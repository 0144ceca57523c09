"""Models of which the default run has one of a kind."""

import pytest

from selbench.models import MODELS

DEEPER = {"resnet32", "resnet44", "resnet56", "resnet110", "resnet50"}  # of kinds that are there

each_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.soak] * (name in DEEPER)) for name in MODELS]
)
