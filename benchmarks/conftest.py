"""Every speed is a ratio against a peer that is timed in the same run, turn by turn."""

import statistics
import sys
import time
from collections.abc import Callable

import pytest

Race = Callable[..., float]


@pytest.fixture
def one_thread():
    """Compute with one thread: two of them wait for each other where other work takes a core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def race(benchmark) -> Race:
    """Time `ours` and `peer` in turn; return the median over rounds of peer's time / our time.

    A ratio above 1 means that ours is faster. Turns keep a machine's drift out of the ratio.
    """

    def run(ours: Callable[[], object], peer: Callable[[], object], rounds: int = 7) -> float:
        theirs: list[float] = []

        def timed_peer() -> None:
            began = time.perf_counter()
            peer()
            theirs.append(time.perf_counter() - began)

        peer(), ours()  # warm up both
        benchmark.pedantic(ours, setup=timed_peer, rounds=rounds, iterations=1)
        own = benchmark.stats.stats.data
        ratios = [their / mine for their, mine in zip(theirs, own, strict=True)]
        ratio = statistics.median(ratios)
        benchmark.extra_info |= {"peer / ours": ratio, "ratios": ratios, "peer seconds": theirs}
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds"
        seconds = f"ours {statistics.median(own):.3f} s, peer {statistics.median(theirs):.3f} s"
        sys.stderr.write(f"\n{benchmark.name}: peer / ours = {ratio:.2f} ({spread}; {seconds})\n")
        return ratio

    return run
