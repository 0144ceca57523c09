"""Quick runs of the command line, and what they evaluate."""

import pytest

from selbench.engine import groups


@pytest.fixture
def evaluated(monkeypatch):
    """Record the name and level of every condition that is evaluated."""
    seen = []
    genuine = groups.run_condition

    def recording(condition, *rest):
        seen.append((condition.name, condition.level))
        return genuine(condition, *rest)

    monkeypatch.setattr(groups, "run_condition", recording)
    return seen
