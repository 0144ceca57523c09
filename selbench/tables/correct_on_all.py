"""Accuracies on the images that every network classifies correctly when clean.

A network that is worse on clean images is usually worse on perturbed ones; this removes that
effect. These images are easy, so accuracies are higher than on all.
"""

from dataclasses import replace

import pandas as pd

from selbench._kit.errors import SelbenchError
from selbench.suites.corrupted import SHIFTED
from selbench.suites.smoothing import SUITE as SMOOTHING
from selbench.tables.accuracies import ids
from selbench.tables.joined import Compared
from selbench.tables.over_images import images_right

CLEAN = "clean/clean"


def correct_on_all(found: Compared) -> Compared:
    """Return the measurements with accuracies on these images only, except for shifted images.

    Raises:
        SelbenchError: if outcomes are missing, if images on disk may not be the test images in the
            same order, or if no image is left.
    """
    if found.published:
        raise SelbenchError(
            f"{found.published[0]} does not say which images its networks have right; leave it or "
            "--correct-on-all out"
        )
    found = replace(found, rows=found.rows[~found.rows["suite"].isin([SHIFTED, SMOOTHING])])
    accuracy = found.rows["metric"] == "accuracy"
    _check_pairs(found, found.rows[accuracy])
    tables = {
        subject: table
        for study, part in found.rows[accuracy].groupby("study")
        for subject, table in _right(found, str(study), part).items()
    }
    lacking = sorted(str(subject) for subject, table in tables.items() if CLEAN not in table.index)
    if lacking:
        raise SelbenchError(
            f"{found.where} holds no clean images of {lacking[0]}; run its study with --suite clean"
        )
    clean = pd.DataFrame({subject: table.loc[CLEAN] for subject, table in tables.items()})
    images = frozenset(clean.index[(clean == 1).all(axis=1)])
    if not images:
        raise SelbenchError(
            f"no clean image of {found.where} is classified correctly by all {len(tables)} "
            "networks; leave --correct-on-all out"
        )
    rows = found.rows.assign(id=ids(found.rows))
    for subject, table in tables.items():
        chosen = accuracy & (rows["subject"] == subject)
        means = table[sorted(images)].mean(axis=1)
        rows.loc[chosen, "value"] = rows.loc[chosen, "id"].map(means)
        rows.loc[chosen, "n"] = len(images)
    return replace(found, rows=rows.drop(columns="id"), images=images)


def _check_pairs(found: Compared, rows: pd.DataFrame) -> None:
    data = found.stores[0][1].manifest()["data"]
    apart = rows[rows["data"] != data]
    if len(apart):
        first = apart.iloc[0]
        raise SelbenchError(
            f"{first['condition']} was read from disk ({first['source']}), so its images are not "
            "known to be the clean ones; take --source generated for --correct-on-all"
        )


def _right(found: Compared, study: str, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return which images each network of a study has right: ids of conditions by images."""
    tables = images_right(dict(found.stores)[study], rows)
    for subject, part in ((str(name), part) for name, part in rows.groupby("subject")):
        if subject not in tables or set(tables[subject].index) != set(ids(part)):
            raise SelbenchError(
                f"{found.where} does not hold the outcomes of {subject} on every image, which "
                "--correct-on-all needs; take the store of the run, not its tables alone"
            )
    return tables
