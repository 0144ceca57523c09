"""A stand-in for a GPU."""

import pytest
from stand_in import standing_in


@pytest.fixture
def gpu(monkeypatch):
    """Return a device that counts, on which nothing may mix with the CPU's tensors."""
    with standing_in(monkeypatch) as made:
        yield made
