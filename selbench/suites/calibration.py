"""The suite of calibration under shift."""

from itertools import groupby

from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint
from selbench.datasets import Dataset
from selbench.metrics import AMOUNT, METRICS, NUMBER, Metric, Panel, RowFilter
from selbench.statistics.calibration import FEWEST, KNOTS
from selbench.statistics.logit_layers import BIAS_DECAY, DECAY
from selbench.study import Study
from selbench.suites.corrupted import corruptions
from selbench.suites.pieces import Condition, Recalibration, Validation
from selbench.suites.work import SUITES, HeldOut, Setting, Work
from selbench.training import train_and_validation

METHOD = f"spline of {KNOTS} knots, temperature, g-layer of decay {DECAY:g} and {BIAS_DECAY:g}"


@SUITES
def calibration(setting: Setting) -> list[Work]:
    """Calibration on clean images and under corruptions, before and after recalibration."""
    held_out = setting.validation
    if held_out is None:
        raise SelbenchError(
            "recalibration needs validation images, and there are none; use --suite "
            "corruptions, which measures calibration as it is"
        )
    if held_out.images < FEWEST:
        raise SelbenchError(
            f"dataset.validation = {held_out.images} is too few to fit a recalibration; hold at "
            f"least {FEWEST} images out, or use --suite corruptions"
        )
    pieces, validation = corruptions(setting), Validation(held_out=held_out)
    conditions = [piece for piece in pieces if isinstance(piece, Condition)]
    fits = [
        _recalibration(tuple(group), validation)
        for _, group in groupby(conditions, key=lambda condition: condition.name)
    ]
    return [*pieces, validation, *fits]


def _recalibration(conditions: tuple[Condition, ...], validation: Validation) -> Recalibration:
    first = conditions[0]
    return Recalibration(
        conditions=conditions,
        validation=validation,
        suite="recalibration",
        name=first.name,
        group=first.group,
        source=f"{first.source}; {METHOD}",
        version=first.version,
    )


def held_out(study: Study, dataset: Dataset) -> HeldOut | None:
    """Return the images that a study holds out of training; None if it trains no networks.

    They differ between seeds: a network may only be recalibrated on those of its seed, since it was
    trained on the others.
    """
    if not len(dataset.train):
        return None
    count = study.dataset.validation
    return HeldOut(
        checksum=fingerprint([dataset.train.checksum, count]),
        images=count,
        load=lambda seed: train_and_validation(study, dataset, seed)[1],
    )


BOARD, TABLE = "calibration", "calibration errors"
_MEASURED, RECALIBRATED = ("clean", "corruptions"), ("recalibration",)
METRICS(
    Metric(
        "accuracy",
        "accuracy",
        "share of images that are classified correctly",
        "corruptions",
        RowFilter(_MEASURED),
        board=BOARD,
        table="",
    ),
    Metric(
        "confidence",
        "confidence",
        "mean probability of the predicted class",
        "corruptions",
        RowFilter(_MEASURED, "confidence"),
        better=0,
        board=BOARD,
        table="",
    ),
    Metric(
        "cross_entropy",
        "NLL",
        "mean negative logarithm of the correct class's probability",
        "corruptions",
        RowFilter(_MEASURED, "cross_entropy"),
        unit=NUMBER,
        better=-1,
        bounds=AMOUNT,
        board=BOARD,
        table="",
    ),
    Metric(
        "brier",
        "Brier",
        "squared error of the probabilities, summed over classes",
        "corruptions",
        RowFilter(_MEASURED, "brier"),
        unit=NUMBER,
        better=-1,
        bounds=(0, 2),
        source="Brier, 1950",
        board=BOARD,
        table="",
    ),
)
TEMPERATURE, G_LAYER = f"{TABLE} after a temperature", f"{TABLE} after a g-layer"
for _suffix, _of, _table, _suite, _suites, _title, _how in (
    ("", "", TABLE, "corruptions", _MEASURED, "as trained", ""),
    ("_spline", "spline ", TABLE, "calibration", RECALIBRATED, "spline", "recalibration"),
    (
        "_temperature",
        "temp. ",
        TEMPERATURE,
        "calibration",
        RECALIBRATED,
        "temperature",
        "temperature scaling",
    ),
    ("_g_layer", "g-layer ", G_LAYER, "calibration", RECALIBRATED, "g-layer", "a g-layer"),
):
    for _name, _label, _meaning, _source in (
        ("ece", "ECE", "expected calibration error in bins of equal width", "arXiv:1706.04599"),
        ("ks_error", "KS", "largest gap of cumulative confidence and accuracy", "arXiv:2006.12800"),
    ):
        _after = f", after {_how}" if _how else ""
        METRICS(
            Metric(
                f"{_name}{_suffix}",
                f"{_of}{_label}",
                f"{_meaning}{_after}",
                _suite,
                RowFilter(_suites, f"{_name}{_suffix}"),
                better=-1,
                source=_source,
                board=BOARD,
                table=_table,
                panel=Panel("calibration", _title, "expected calibration error, %")
                if _name == "ece"
                else None,
            )
        )
        METRICS(
            Metric(
                f"{_name}{_suffix}_null",
                f"{_of}{_label} null",
                f"the error of a perfectly calibrated network on as many images{_after}",
                _suite,
                RowFilter(_suites, f"{_name}{_suffix}_null"),
                better=0,
                board=BOARD,
                table=_table,
                null_of=f"{_name}{_suffix}",
            )
        )

METRICS(
    Metric(
        "accuracy_g_layer",
        "g-layer accuracy",
        "accuracy after a g-layer, which may change predictions",
        "calibration",
        RowFilter(RECALIBRATED, "accuracy_g_layer"),
        source="arXiv:2006.12807",
        board=BOARD,
        table=G_LAYER,
    )
)
