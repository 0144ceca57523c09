"""Quick runs of the command line, and what they evaluate."""

import pytest

from selbench.suites import Condition


@pytest.fixture
def evaluated(monkeypatch):
    """Record the name and level of every condition that is evaluated."""
    seen = []
    genuine = Condition.run

    def recording(condition, *rest):
        seen.append((condition.name, condition.level))
        return genuine(condition, *rest)

    monkeypatch.setattr(Condition, "run", recording)
    return seen
