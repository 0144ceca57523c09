"""Training curves as rows beside the measurements: the manifest has them, since no cell does."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

SUITE = "training"
# What an epoch says, and how its rows name it: those of other images are no `accuracy`.
METRICS = {
    "cross_entropy": "training_cross_entropy",
    "selectivity": "training_selectivity",
    "accuracy": "validation_accuracy",
}


def with_curves(rows: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return measurements with three rows for each epoch of the networks that are among them.

    They are of suite "training", condition "epoch" and level 1, 2, ...; the first two metrics are
    means over the epoch's batches of augmented training images, whose number is not kept (n = 0),
    the third is of the validation images. Networks that were not trained here have none.
    """
    epochs = pd.DataFrame(
        {"subject": name, **epoch}
        for name, facts in manifest["subjects"].items()
        for epoch in facts.get("curves", [])
    )
    if epochs.empty:
        return rows
    long = epochs.rename(columns={"number": "level", **METRICS})
    long = long.melt(["subject", "level"], var_name="metric").dropna()
    held_out = manifest["study"]["dataset"]["validation"]
    long["n"] = held_out * (long["metric"] == METRICS["accuracy"])
    kept = ["subject", "alpha", "seed", "training", "architecture", "weights", "data", "limit"]
    networks = rows[kept].drop_duplicates("subject")
    made = long.merge(networks).assign(suite=SUITE, condition="epoch", group="", helper="")
    made = made.assign(source="original", version=1)
    made = made.reindex(columns=rows.columns).astype(rows.dtypes)
    return pd.concat([rows, made], ignore_index=True)
