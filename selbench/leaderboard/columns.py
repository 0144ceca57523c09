"""The leaderboard's columns: what each is called, how it is written, and which suite makes it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from corruptions import CORRUPTIONS

FAMILIES = ("noise", "blur", "weather", "digital")
BUDGETS = {  # accuracy, mean over the budgets of these attacks
    "fgsm": "fgsm-linf",
    "pgd_linf": "pgd-linf",
    "pgd_l2": "pgd-l2",
    "autoattack_linf": "autoattack-linf",
    "autoattack_l2": "autoattack-l2",
}
ATTACKS = (*BUDGETS, "paper_pgd")
MEDIANS = ("median_linf", "median_l2")
RELATIVE = ("mce", "relative_mce")  # to a reference
MASKING = "masking"  # the column of flags, in words


@dataclass(frozen=True)
class Column:
    """How a quantity is shown: its heading, the factor from the data's unit, and decimals.

    Attributes:
        suite: what `selbench run --suite` makes it with.
        interval: whether tables for people show it.
        better: whether more of it is better (1), less (-1), or neither (0).
        asked: whether tables for people show it only where it is asked for.
    """

    heading: str
    factor: float = 100
    decimals: int = 1
    suite: str = "corruptions"
    interval: bool = True
    better: int = 1
    asked: bool = False


_FIXED = {
    "selectivity": Column("selectivity", 1, 3, better=0),
    "null": Column("null", 1, 3, interval=False, better=0),
    "clean": Column("clean %", suite="clean"),
    "mca": Column("corrupted %"),
    "mce": Column("mCE %", better=-1),
    "relative_mce": Column("relative mCE %", better=-1, asked=True),
    "ratio": Column("corr./clean", 1, 3),
    **{family: Column(f"{family} %") for family in FAMILIES},
    "fgsm": Column("FGSM %", suite="attacks"),
    "paper_pgd": Column("paper PGD %", suite="attacks"),
    "pgd_linf": Column("PGD Linf %", suite="attacks"),
    "pgd_l2": Column("PGD L2 %", suite="attacks"),
    "autoattack_linf": Column("AutoAttack Linf %", suite="attacks-strong"),
    "autoattack_l2": Column("AutoAttack L2 %", suite="attacks-strong"),
    "median_linf": Column("median Linf", 1, 2, "attacks"),
    "median_l2": Column("median L2", 1, 2, "attacks"),
    "dimension": Column("dim. %", suite="dimensionality", better=0),
    "change_corrupted": Column("change dim. %", suite="dimensionality", better=0),
    "change_attacked": Column("PGD change dim. %", suite="dimensionality", better=0),
    "cv_samples": Column("CV samples", 1, 3, "gradients", better=0),
    "cv_units": Column("CV units", 1, 3, "gradients", better=0),
    "jacobian": Column("Jacobian", 1, 1, "jacobian", better=-1),
    "distance": Column("margin dist.", 1, 3, "jacobian"),
    "elasticity": Column("elasticity", 1, 2, "elasticity", better=0),
}


class _Columns(Mapping[str, Column]):
    """Columns by name: the fixed ones, then one for each corruption, later ones included."""

    def __getitem__(self, name: str) -> Column:
        if name in _FIXED:
            return _FIXED[name]
        suite = "corruptions-extra" if CORRUPTIONS[name].extra else "corruptions"
        return Column(f"{name.replace('_', ' ')} %", suite=suite, asked=True)

    def __iter__(self) -> Iterator[str]:
        yield from _FIXED
        yield from (name for name in CORRUPTIONS if name not in _FIXED)

    def __len__(self) -> int:
        return sum(1 for _ in self)


COLUMNS: Mapping[str, Column] = _Columns()
