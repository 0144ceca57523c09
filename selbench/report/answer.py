"""The answer on page one: over which alphas one robustness is traded for the other."""

from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from selbench.claims.claim import SCALES, Scale
from selbench.statistics.intervals import Difference, seed_difference
from selbench.study import count_of, exactly
from selbench.tables.means import log_odds

KINDS = ["corrupted", "adversarial"]


@dataclass(frozen=True)
class Traded:
    """Two alphas between which both accuracies change, in opposite directions, beyond chance."""

    low: float
    high: float
    towards_attacks: bool  # whether the higher alpha is the more robust one to attacks

    @property
    def words(self) -> str:
        """Name the range."""
        return f"alpha = {exactly(self.low)} to {exactly(self.high)}"


def answered(found: pd.DataFrame, images: float) -> str:
    """Say in a sentence or two over which alphas, and on which scales, there is a trade-off.

    Ranges are compared by their ends: a trade-off is where the 95 % intervals over seeds of both
    differences exclude zero, with opposite signs.

    Args:
        found: networks' positions (`selbench.tables.tradeoff.positions`).
        images: how many clean accuracy is of.
    """
    trained = found[found["alpha"].notna() & (found["clean"] > 0)]
    sizes = trained.groupby("alpha").size()
    if len(sizes) < 2:
        return "One alpha alone shows no trade-off: that needs networks of several alphas."
    if not (sizes > 1).sum() > 1:
        return "With one network for each alpha, a trade-off cannot be told from chance."
    ranges = {scale: _ranges(trained, scale, images) for scale in SCALES}
    return _sentence(ranges)


def _sentence(ranges: dict[Scale, list[Traded]]) -> str:
    names = _joined(list(SCALES), "and")
    shared = [
        each
        for each in ranges[SCALES[0]]
        if all(each in scale_ranges for scale_ranges in ranges.values())
    ]
    if shared:
        kept = _widest(shared)
        rest = "No scale shows one over a wider range."
        if any(_widest(scale_ranges) != kept for scale_ranges in ranges.values()):
            rest = f"Wider ranges depend on the scale: {_by_scale(ranges, kept)}."
        return f"From {kept.words}, {_direction(kept)}, on every scale ({names}). {rest}"
    if any(ranges.values()):
        return f"Whether there is a trade-off depends on the scale: {_by_scale(ranges)}."
    return f"No range of alphas shows a trade-off beyond chance on any scale ({names})."


def _direction(kept: Traded) -> str:
    more, less = ("attacks", "corruptions") if kept.towards_attacks else ("corruptions", "attacks")
    return f"networks get more robust to {more} and less to {less} as alpha rises"


def _by_scale(ranges: dict[Scale, list[Traded]], than: Traded | None = None) -> str:
    """Name the widest range of each scale; only wider ones `than` another one."""
    scales_by_range: dict[str, list[str]] = {}
    for scale, scale_ranges in ranges.items():
        found = _widest(scale_ranges) if scale_ranges else None
        where = f"from {found.words}" if found and found != than else "none"
        scales_by_range.setdefault(where, []).append(scale)
    return "; ".join(
        f"{where} in {_joined(scales, 'and')}" for where, scales in scales_by_range.items()
    )


def _joined(words: list[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _widest(ranges: list[Traded]) -> Traded:
    """Return the widest range; of several the one from the lowest alpha."""
    return max(ranges, key=lambda each: (each.high - each.low, -each.low))


def _ranges(found: pd.DataFrame, scale: Scale, images: float) -> list[Traded]:
    """Return all ranges that trade one accuracy for the other, on a scale beside clean accuracy."""
    values = _scaled(found, scale, images)
    groups = {
        float(alpha): part
        for alpha, part in values.groupby(found["alpha"])  # rising
        if len(part) > 1
    }
    made = []
    for low, high in combinations(groups, 2):
        corrupted, adversarial = (
            seed_difference(groups[high][kind].tolist(), groups[low][kind].tolist())
            for kind in KINDS
        )
        opposite = corrupted.value * adversarial.value < 0
        if opposite and _sure(corrupted) and _sure(adversarial):
            made.append(Traded(low, high, adversarial.value > 0))
    return made


def _scaled(found: pd.DataFrame, scale: Scale, images: float) -> pd.DataFrame:
    if scale == "ratio":
        return found[KINDS].div(found["clean"], axis=0)
    if scale == "points":
        return found[KINDS].sub(found["clean"], axis=0)
    odds = found[KINDS].apply(log_odds, images=images)
    return odds.sub(log_odds(found["clean"], images), axis=0)


def _sure(change: Difference) -> bool:
    return not change.low <= 0 <= change.high


def picked(found: pd.DataFrame) -> str:
    """Say how many ranges the answer was chosen from."""
    alphas = found["alpha"].dropna().nunique()
    ranges = count_of(alphas * (alphas - 1) // 2, "range")
    return (
        f"A trade-off: between the two ends of a range both differences have 95 % intervals over "
        f"seeds without zero, and opposite signs. Of {ranges} the widest is named, chosen after "
        "seeing them all; claims test ranges that were fixed before."
    )
