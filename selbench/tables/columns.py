"""The leaderboard's columns: the metrics that it shows, and in which of its tables."""

from collections.abc import Hashable, Iterable, Iterator, Mapping

from corruptions import CORRUPTIONS
from selbench.metrics import Metric
from selbench.suites import METRICS
from selbench.suites.corrupted import CORRUPTED, SHIFTED, accuracy_on, accuracy_under

OF_FOLDERS = f"{SHIFTED}_"  # how columns of shifted images begin
MASKING = "masking"  # the column of flags, in words
INDEX = frozenset({"selectivity", "null"})  # columns of what activations have
COVERED = "selectivity_of"  # the column that says which, where that is not all
PARTIAL = "*"  # marks an index that covers only some activations
# Tables by their titles, and those on narrow screens that they are made of; others follow.
WIDE = {
    "": ("selectivity", "", "accuracy by family"),
    "attacks": ("attacks", "smallest perturbations"),
    "mechanism": ("dimensionality", "gradients and elasticity"),
}
TABLES = [table for parts in WIDE.values() for table in parts]


class _Columns(Mapping[str, Metric]):
    """Columns by name: table by table, then one for each corruption, later ones included.

    Folders of shifted images have columns too, which are not listed: see `columns_of`.
    """

    def __getitem__(self, name: str) -> Metric:
        if name.startswith(OF_FOLDERS):
            return accuracy_on(name.removeprefix(OF_FOLDERS))
        if name in METRICS and METRICS[name].board == "leaderboard":
            return METRICS[name]
        if name not in CORRUPTIONS:
            raise KeyError(name)
        return accuracy_under(CORRUPTIONS[name])

    def __iter__(self) -> Iterator[str]:
        own = [each for each in METRICS.values() if each.board == "leaderboard"]
        names = [each.name for each in sorted(own, key=_table)]
        yield from dict.fromkeys([*names, *CORRUPTIONS])

    def __len__(self) -> int:
        return sum(1 for _ in self)


COLUMNS: Mapping[str, Metric] = _Columns()


def columns_of(names: Iterable[Hashable]) -> dict[str, Metric]:
    """Return all columns, those of the folders of shifted images in a table of `names` as well."""
    there = list(map(str, names))
    folders = [each for each in there if each.startswith(OF_FOLDERS) and f"{each}_n" in there]
    return {name: COLUMNS[name] for name in [*COLUMNS, *folders]}


def _table(metric: Metric) -> int:
    return TABLES.index(metric.table) if metric.table in TABLES else len(TABLES)


def attacked(metric: Metric) -> bool:
    """Say whether it is what attacks leave, beside which flags of masked gradients stand."""
    return metric.table in WIDE["attacks"]


def of_corrupted(metric: Metric) -> bool:
    """Say whether it is made of accuracies under corruptions."""
    return metric.reads.metric == "accuracy" and {*metric.reads.suites} <= {*CORRUPTED}
