"""The columns of the leaderboard, and its tables."""

from collections.abc import Hashable, Iterable, Iterator, Mapping

from corruptions import CORRUPTIONS
from selbench.metrics import Metric
from selbench.suites import METRICS
from selbench.suites.corrupted import CORRUPTED, SHIFTED, accuracy_on, accuracy_under

OF_FOLDERS = f"{SHIFTED}_"  # prefix of columns of shifted images
MASKING = "masking"  # the column of flags
INDEX = frozenset({"selectivity", "null"})  # columns of activations' selectivity
COVERED = "selectivity_of"  # the column that says which activations, if not all
PARTIAL = "*"  # mark of an index over only some activations
# Tables by title, with the tables that replace them on narrow screens; others follow.
WIDE = {
    "": ("selectivity", "", "accuracy by family"),
    "attacks": ("attacks", "smallest perturbations"),
    "mechanism": ("dimensionality", "gradients and elasticity"),
}
TABLES = [table for parts in WIDE.values() for table in parts]


class _Columns(Mapping[str, Metric]):
    """Columns by name: table by table, then one for each corruption, with those of plugins.

    Folders of shifted images also have columns, which are not listed: see `columns_of`.
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
        metrics = [each for each in METRICS.values() if each.board == "leaderboard"]
        names = [each.name for each in sorted(metrics, key=_table)]
        yield from dict.fromkeys([*names, *CORRUPTIONS])

    def __len__(self) -> int:
        return sum(1 for _ in self)


COLUMNS: Mapping[str, Metric] = _Columns()


def columns_of(names: Iterable[Hashable]) -> dict[str, Metric]:
    """Return all columns, with those of folders of shifted images among `names`."""
    there = list(map(str, names))
    folders = [each for each in there if each.startswith(OF_FOLDERS) and f"{each}_n" in there]
    return {name: COLUMNS[name] for name in [*COLUMNS, *folders]}


def _table(metric: Metric) -> int:
    return TABLES.index(metric.table) if metric.table in TABLES else len(TABLES)


def attacked(metric: Metric) -> bool:
    """Return whether a column is a result of attacks, which flags of masked gradients accompany."""
    return metric.table in WIDE["attacks"]


def of_corrupted(metric: Metric) -> bool:
    """Return whether a column is computed from accuracies under corruptions."""
    return metric.reads.metric == "accuracy" and {*metric.reads.suites} <= {*CORRUPTED}
