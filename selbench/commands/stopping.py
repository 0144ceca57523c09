"""Options that stop the attacks of `selbench run` early, and the report on what was decided."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from selbench._kit.errors import SelbenchError
from selbench.commands.options import say

if TYPE_CHECKING:
    from selbench._engine.stopping import Compared, Stop, Stopped
    from selbench.networks.network import Network
    from selbench.request import Request
    from selbench.session import Session

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Stop attacks of attacks-strong after this time, such as 30m or 2h."
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        metavar="POINTS",
        help="Stop them once networks are decided, or differ by less; 3 with --budget.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT", help="With one network: the robust accuracy to compare it with."
    ),
]


def stop_of(budget: str | None, margin: float | None, threshold: float | None) -> "Stop | None":
    """Return when to stop; None if no such option is given.

    Raises:
        SelbenchError: for an invalid time, margin or percentage.
    """
    if budget is None and margin is None and threshold is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smh])", budget or "1s", re.ASCII)
    if found is None or float(found[1]) == 0:
        raise SelbenchError(
            f"--budget takes a time with its unit, such as 90s, 30m or 1.5h, got {budget!r:.40}"
        )
    if margin is not None and not 0 < margin <= 100:
        raise SelbenchError(f"--margin takes points above 0 and up to 100, got {margin:g}")
    if threshold is not None and not 0 <= threshold <= 100:
        raise SelbenchError(f"--threshold takes a percentage from 0 to 100, got {threshold:g}")
    from selbench._engine.stopping import Stop

    seconds = None if budget is None else float(found[1]) * SECONDS[found[2]]
    return Stop(3.0 if margin is None else margin, seconds, threshold)


def refuse_several(stop: "Stop | None", engine: str, others: Sequence[str]) -> None:
    """Raise `SelbenchError` if attacks that may stop would run on several devices."""
    if stop is not None and (engine != "local" or others):
        raise SelbenchError(
            "--budget, --margin and --threshold look at all networks after every chunk of images, "
            "on one device; leave out --engine, or name one --device"
        )


def show_least(
    session: "Session", request: "Request", brought: Sequence["Network"], stop: "Stop"
) -> None:
    """Print the smallest and largest number of images after which a run may stop."""
    from selbench._engine.stopping import comparisons, least, slow

    attacks = slow(session.pieces(request))
    study = session.study
    networks = len(brought) or len(study.alphas) * len(study.seeds)
    size = min(request.limit or len(session.dataset.test), len(session.dataset.test))
    count = comparisons(attacks, networks)
    fewest = least(stop, size, count)
    say(
        f"this is an upper bound, for all {size:,} images; networks with equal outcomes are "
        f"decided to differ by less than {stop.margin:g} points after {fewest:,} images ({count:,} "
        "comparisons), others later, and very different ones sooner"
    )


def show_stopped(seen: "Stopped", stop: "Stop") -> None:
    """Print what was decided, and what was not, for each attack and level."""
    levels = groupby(seen.compared, lambda each: (each.attack, each.level))
    for (attack, level), comparisons in levels:
        say(f"{attack} at {level:g}/255, by {seen.images:,} of {seen.size:,} images:")
        for each in comparisons:
            say(f"  {_sentence(each, stop)}")
    for name in seen.failed:
        say(f"an attack failed on {name}, so it is not compared")
    undecided = sum(each.decided == "open" for each in seen.compared)
    many = len(seen.compared)
    if many:
        how = "all" if not undecided else f"{many - undecided:,}"
        say(
            f"decided: {how} of {many:,} comparisons, at 95 % for all of them and any stopping "
            f"time; the results equal a run with --limit {seen.images}"
        )
    if undecided:
        say("run the same command again to continue, with a new budget")


def _sentence(each: "Compared", stop: "Stop") -> str:
    second = each.second or f"{stop.threshold:g} %"
    ends = f"{each.value:+.1f} points, {each.low:+.1f} to {each.high:+.1f}"
    words = {
        "above": f"{each.first} above {second}",
        "below": f"{each.first} below {second}",
        "alike": f"{each.first} and {second} differ by less than {stop.margin:g}",
        "open": f"{each.first} and {second}: not decided",
    }
    return f"{words[each.decided]} ({ends})"
