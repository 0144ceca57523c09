"""What a run of the command line kept in a store."""

import json
from pathlib import Path

import pandas as pd


def measurements(store="runs", study="tiny"):
    return pd.read_csv(Path(store) / study / "measurements.csv")


def manifest(store="runs", study="tiny"):
    return json.loads((Path(store) / study / "manifest.json").read_text())
