"""Every speed is a ratio against a peer that is timed in the same run, turn by turn."""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

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
    `clock` is that of the wall; `time.process_time` counts processor time, for single threads.
    """

    def run(
        ours: Callable[[], object],
        peer: Callable[[], object],
        rounds: int = 7,
        clock: Callable[[], float] = time.perf_counter,
    ) -> float:
        own: list[float] = []
        theirs: list[float] = []

        def timed(work: Callable[[], object], seconds: list[float]) -> None:
            began = clock()
            work()
            seconds.append(clock() - began)

        peer(), ours()  # warm up both
        benchmark.pedantic(
            partial(timed, ours, own),
            setup=partial(timed, peer, theirs),
            rounds=rounds,
            iterations=1,
        )
        ratios = [their / mine for their, mine in zip(theirs, own, strict=True)]
        ratio = statistics.median(ratios)
        benchmark.extra_info |= {"peer / ours": ratio, "ratios": ratios}
        benchmark.extra_info |= {"seconds": own, "peer seconds": theirs}
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds"
        seconds = f"ours {statistics.median(own):.3f} s, peer {statistics.median(theirs):.3f} s"
        sys.stderr.write(f"\n{benchmark.name}: peer / ours = {ratio:.2f} ({spread}; {seconds})\n")
        return ratio

    return run
