"""Results on disk; every file is written atomically.

A store is a folder, local or at a URL, with one folder per study:

    runs/selbench.json                    the store's format
    runs/<study>/cells/<key>.json         cells that were evaluated together: facts, measurements
    runs/<study>/cells/<key>.parquet      their outcomes, one row per subject and example
    runs/<study>/cells/pack-<key>.*       many such files, packed at the end of a run
    runs/<study>/failed/<key>.json        a cell that could not be evaluated, and why
    runs/<study>/locks/                   the work that runs are doing now
    runs/<study>/parts/                   finished chunks of images of unfinished work
    runs/<study>/adversarials/            adversarials, if requested
    runs/<study>/measurements.csv         every measurement, tidy; made from the cells
    runs/<study>/manifest.json            the request, how it was made, whether it is complete

A cell is one subject under one condition. Its key is a content hash of everything that its numbers
depend on, so a cell is evaluated once, and an interrupted run resumes. Files of cells and the
manifest hold checksums, which every reader checks.
"""

from selbench.store.cells import (
    BOUND,
    CELL,
    DRAWN,
    EVERY_EPSILON,
    MEASURED,
    OVER_DRAWS,
    SMOOTHED,
    Cell,
    Failure,
    Measurement,
    Result,
    condition_id,
    is_attack,
)
from selbench.store.held import HeldStore
from selbench.store.manifest import COMPLETE, INCOMPLETE, RUNNING, check_curves
from selbench.store.opening import open_places, open_studies
from selbench.store.study_store import (
    FINISH,
    FORMAT,
    MARK,
    StudyStore,
    check_format,
    check_place,
    write_mark,
)

__all__ = [
    "BOUND",
    "CELL",
    "COMPLETE",
    "DRAWN",
    "EVERY_EPSILON",
    "FINISH",
    "FORMAT",
    "INCOMPLETE",
    "MARK",
    "MEASURED",
    "OVER_DRAWS",
    "RUNNING",
    "SMOOTHED",
    "Cell",
    "Failure",
    "HeldStore",
    "Measurement",
    "Result",
    "StudyStore",
    "check_curves",
    "check_format",
    "check_place",
    "condition_id",
    "is_attack",
    "open_places",
    "open_studies",
    "write_mark",
]
