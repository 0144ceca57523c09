"""The corruptions of C-bar beside the published code, and beside the tests' oracle of it.

The published code (Mintun, Kirillov & Xie) is looked for in the folder that SELBENCH_C_BAR names,
its `imagenet_c_bar`; it needs scikit-image. The oracle does the same arithmetic, an image at a
time, on arrays of pixels instead of one pixel after the other. Ours computes in one thread, too.
"""

import importlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.random import RandomState
from test_corruption_speed import ours, photographs

from corruptions import CORRUPTIONS, bar_corruptions

pytestmark = pytest.mark.usefixtures("one_thread")

SEVERITY = 3
COUNTS = {32: (512, 8), 224: (4, 1)}  # images of ours, and of the peer's
EACH = [(name, size) for size in COUNTS for name in bar_corruptions(size)]

each_corruption = pytest.mark.parametrize(("name", "size"), EACH)
Transform = Callable[[np.ndarray], object]


@pytest.fixture(scope="module")
def report() -> Iterator[list[str]]:
    """Collect lines of a Markdown table; print them at the end."""
    lines: list[str] = []
    yield lines
    sys.stderr.write("\n\n" + "\n".join(lines) + "\n")


@pytest.fixture
def beside(race, benchmark, report) -> Callable[[str, int, str, Transform], float]:
    """Return a function that times ours beside a peer's; it returns the ratio of their rates."""

    def run(name: str, size: int, whose: str, transform: Transform) -> float:
        many, few = COUNTS[size]
        arrays = list(photographs(few, size).permute(0, 2, 3, 1).contiguous().numpy())

        def theirs() -> None:
            for array in arrays:
                transform(array)

        turn = ours(photographs(many, size), [name], range(SEVERITY, SEVERITY + 1))
        ratio = race(turn, theirs, rounds=3) * many / few
        rate = many / benchmark.stats.stats.median
        peer_rate = few / statistics.median(benchmark.extra_info["peer seconds"])
        report.append(
            f"| {name} | {size} | {whose} | {rate:,.0f} | {peer_rate:,.2f} | {ratio:,.0f} |"
        )
        return ratio

    return run


@pytest.fixture(scope="module")
def published() -> Callable[[str, int], Transform]:
    """Return a function that makes a transform of the published code, or skip."""
    folder = os.environ.get("SELBENCH_C_BAR")
    if folder is None:
        pytest.skip("SELBENCH_C_BAR names no folder with the published code of C-bar")
    pytest.importorskip("skimage", reason="the published code needs scikit-image")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(folder).resolve())
        for name, kind in (("int", int), ("uint", np.uint), ("float", float)):
            patch.setattr(np, name, kind, raising=False)  # which NumPy had in its days
        finder = importlib.import_module("transform_finder")
        yield lambda name, size: finder.transform_dict[name](
            severity=_level(name, size), im_size=size
        )


def _level(name: str, size: int) -> float:
    level = CORRUPTIONS[name].severities[size][SEVERITY - 1]
    return float(level[0] if isinstance(level, tuple) else level)


@each_corruption
def test_each_beside_the_published_code(beside, published, name, size):
    """Target: ten times its rate."""
    assert beside(name, size, "published code", published(name, size)) >= 10


@each_corruption
def test_each_beside_the_oracle(beside, monkeypatch, name, size):
    """Target: at 32 pixels twice its rate; at 224 a single image keeps NumPy as busy as torch."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tests/corruptions")
    oracle = importlib.import_module("oracle_bar")
    random = RandomState(0)
    ratio = beside(name, size, "oracle", lambda a: oracle.corrupted_bar(a, name, 3, random))
    assert ratio >= 2 or size == 224
