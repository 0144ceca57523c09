"""What tests and benchmarks write into stores: a cell, and what its study's manifest says."""

from selbench.store import Cell

CELL = Cell(
    suite="clean",
    condition="clean",
    level=None,
    group="",
    source="original",
    version=1,
    data="d",
    limit=None,
    subject="alpha=0 seed=0",
    alpha=0.0,
    seed=0,
    training="t",
    architecture="linear",
    weights="w",
)
FACTS = {"data": "d", "training": "t", "conditions": {}, "subjects": {}}
