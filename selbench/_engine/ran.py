"""What a run did."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selbench.store import Cell, Failure


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        networks: the number of networks, evaluated now or earlier.
        evaluated: the number of cells that this run evaluated.
        seconds: the duration.
        failures: the requested cells that failed.
        earlier: how many of these failed in an earlier run and were not tried again.
        lost: requested cells that are missing without a failure: another process removed them.
    """

    networks: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    failures: Sequence[Failure] = ()
    earlier: int = 0
    lost: Sequence[Cell] = ()

    def after(self, first: "RunResult") -> "RunResult":
        """Return the result of both runs, of which this one includes the networks of the first."""
        return replace(
            self,
            evaluated=first.evaluated + self.evaluated,
            seconds=first.seconds + self.seconds,
            earlier=self.earlier - (len(first.failures) - first.earlier),
        )
