"""Suites of corruptions: generated from the test images, or read from a set on disk."""

import warnings
from collections.abc import Sequence

from corruptions import CORRUPTIONS, SMALLEST_SIDE, Corruption, bar_corruptions, corrupt
from corruptions.registry import BAR_FAMILIES, FAMILIES
from selbench._kit.errors import SelbenchError
from selbench._kit.types import Examples, Pixels
from selbench.metrics import AMOUNT, INFINITE, METRICS, NUMBER, Metric, RowFilter
from selbench.sets.layout import SEVERITIES
from selbench.sets.reading import CorruptedSet
from selbench.sets.shifted import ShiftedSet
from selbench.sets.treatment import find_variants
from selbench.suites.clean import clean
from selbench.suites.index import class_index
from selbench.suites.pieces import Condition
from selbench.suites.work import SUITES, Setting, Work

BAR = "corruptions-bar"
CORRUPTED = ("corruptions", "corruptions-extra")  # the suites of mCE and of the family columns
SHIFTED = "shifted"  # the suite of a folder of shifted images
NAMED = 5  # of the corruptions that a set holds


@SUITES
def corruptions(setting: Setting) -> list[Work]:
    """The benchmark's 15 corruptions at five severities, clean accuracy and selectivity."""
    return [*class_index(setting), *clean(setting), *_corrupted(setting, "corruptions")]


@SUITES
def corruptions_extra(setting: Setting) -> list[Work]:
    """The extra corruptions, beyond the 15, at five severities, clean accuracy and selectivity."""
    return [*class_index(setting), *clean(setting), *_corrupted(setting, "corruptions-extra")]


@SUITES
def corruptions_all(setting: Setting) -> list[Work]:
    """The 15 and the extra corruptions at five severities, clean accuracy and selectivity."""
    return [*class_index(setting), *clean(setting), *_corrupted(setting, *CORRUPTED)]


@SUITES
def corruptions_bar(setting: Setting) -> list[Work]:
    """The 10 corruptions of C-bar at five severities, clean accuracy and selectivity.

    For 224 pixels those of ImageNet-C-bar, else those of CIFAR-10-C-bar; with a set on disk, those
    that it holds. Others can be selected by name.
    """
    return [*class_index(setting), *clean(setting), *_corrupted(setting, BAR)]


def nearest_scale(setting: Setting) -> int:
    """Return the size with constants that is nearest, as a ratio, to the images' shorter side."""
    side = min(setting.height, setting.width)
    sizes = next(iter(CORRUPTIONS.values())).severities
    return min(sizes, key=lambda size: max(size / side, side / size))


def every_corruption(setting: Setting) -> list[Condition]:
    """Return the 15 and the extra corruptions at all severities; of a set on disk, those it holds.

    Raises `SelbenchError` for a folder of shifted images, which are not corrupted test images.
    """
    only, stored = setting.corruptions, setting.stored
    if isinstance(stored, ShiftedSet):
        raise SelbenchError(
            f"{stored.folder} holds other images than the test set, so representations cannot be "
            "compared; use --source generated"
        )
    chosen = [
        corruption
        for name, corruption in CORRUPTIONS.items()
        if name in only
        or not (only or corruption.bar or (stored is not None and not stored.holds(name)))
    ]
    return _made(setting, chosen, stored)


def benchmark_at(severity: int, setting: Setting) -> tuple[Condition, ...]:
    """Return the benchmark's corruptions, or the requested ones, at one severity.

    Raises:
        SelbenchError: if images on disk are not the test images in the same order.
    """
    stored = setting.stored
    made = [] if isinstance(stored, ShiftedSet) else _corrupted(setting, "corruptions")
    found = tuple(each for each in made if each.level == severity)
    if stored is not None and not (found and all(_paired(each) for each in found)):
        raise SelbenchError(
            f"{stored.folder} may not hold the test images, in the same order, under "
            f"corruptions of severity {severity}; use --source generated"
        )
    return found


def _paired(condition: Condition) -> bool:
    return condition.stored is not None and condition.stored.paired


def _corrupted(setting: Setting, *suites: str) -> list[Condition]:
    """Return the conditions of suites of corruptions; with a set on disk, those that it holds.

    A folder of shifted images replaces all of them.
    """
    only, stored = setting.corruptions, setting.stored
    if isinstance(stored, ShiftedSet):
        return [shifted(stored, only)]
    corruptions = [each for each in CORRUPTIONS.values() if _suite(each) in suites]
    if only:
        corruptions = [each for each in corruptions if each.name in only]
    elif stored is not None:
        corruptions = _held(corruptions, stored, suites)
    elif suites == (BAR,):
        names = bar_corruptions(setting.scale or setting.height)
        corruptions = [each for each in corruptions if each.name in names]
    return _made(setting, corruptions, stored)


def _held(
    corruptions: list[Corruption], stored: CorruptedSet, suites: Sequence[str]
) -> list[Corruption]:
    """Return the corruptions of suites that a set holds, and warn about missing ones."""
    held = [each for each in corruptions if stored.holds(each.name)]
    if stored.strict and BAR not in suites:
        return corruptions  # reading reports missing files
    if not held:
        raise SelbenchError(
            f"{stored.folder} holds none of the corruptions of {' and '.join(suites)}; "
            f"{_holding(stored)}"
        )
    lacking = [each.name for each in corruptions if each not in held and not each.bar]
    if lacking:
        warnings.warn(
            f"{stored.folder} lacks {', '.join(lacking)}; {' and '.join(suites)} "
            f"{'runs' if len(suites) == 1 else 'run'} without them",
            stacklevel=2,
        )
    return held


def _holding(stored: CorruptedSet) -> str:
    names = [*stored.places]
    if not names:
        return (
            "it must hold <corruption>.npy, <corruption>/<severity>/<class>/* or <class>/*; "
            "name the folder of a set, or use --source generated"
        )
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"it holds {', '.join(names[:NAMED])}{more}; choose the suite of those"


def shifted(stored: ShiftedSet, only: Sequence[str] = ()) -> Condition:
    """Return shifted images as a condition; raise `SelbenchError` if corruptions are requested."""
    if only:
        raise SelbenchError(
            f"{stored.folder} holds shifted images, not corruptions; leave out --corruption"
        )
    images = stored.find()
    return Condition(SHIFTED, stored.name, source=images.source, stored=images)


def _made(
    setting: Setting, chosen: list[Corruption], stored: CorruptedSet | None
) -> list[Condition]:
    if stored is not None:
        return [piece for corruption in chosen for piece in _stored(corruption, stored)]
    variants = find_variants([corruption.name for corruption in chosen])
    return [
        _generated(corruption, severity, variants[corruption.name], setting)
        for corruption in chosen
        for severity in SEVERITIES
    ]


def _stored(corruption: Corruption, stored: CorruptedSet) -> list[Condition]:
    return [
        Condition(
            suite=_suite(corruption),
            name=corruption.name,
            level=severity,
            group=corruption.family,
            source=images.source,
            stored=images,
        )
        for severity, images in stored.find(corruption.name).items()
    ]


def _generated(corruption: Corruption, severity: int, variant: str, setting: Setting) -> Condition:
    name, scale = corruption.name, setting.scale
    if min(setting.height, setting.width) < SMALLEST_SIDE:
        raise SelbenchError(
            f"the images are {setting.width} x {setting.height} pixels; corruptions need at least "
            f"{SMALLEST_SIDE} a side; enlarge them"
        )
    if scale is None and (setting.height, setting.width) not in (
        (s, s) for s in corruption.severities
    ):
        *most, last = corruption.severities
        raise SelbenchError(
            f"{name} has no constants for images of {setting.width} x {setting.height} pixels, "
            f"only for {', '.join(map(str, most))} and {last}; use the nearest with --scale "
            f"{nearest_scale(setting)} (or corruptions.scale in the study)"
        )
    marks = [variant] if variant else []
    if not corruption.published(scale or setting.height):
        marks.append("constants of selbench")
    if scale is not None and (setting.height, setting.width) != (scale, scale):
        marks.append(f"constants of {scale} pixels")

    def perturb(images: Pixels, examples: Examples) -> Pixels:
        return corrupt(images, name, severity, examples=examples, scale=scale)

    return Condition(
        suite=_suite(corruption),
        name=name,
        perturb=perturb,
        level=severity,
        group=corruption.family,
        source=f"generated ({', '.join(marks)})" if marks else "generated",
        version=corruption.version,
    )


def _suite(corruption: Corruption) -> str:
    if corruption.bar:
        return BAR
    return "corruptions-extra" if corruption.extra else "corruptions"


HENDRYCKS, MINTUN = "arXiv:1903.12261", "arXiv:2102.11273"
METRICS(
    Metric(
        "mca",
        "corrupted",
        "mean corrupted accuracy: over severities, then over corruptions",
        "corruptions",
        RowFilter(CORRUPTED),
        source=HENDRYCKS,
        table="",
    ),
    Metric(
        "mce",
        "mCE",
        "mean corruption error: the error on each corruption divided by that of the reference "
        "(alpha = 0 of the same seed), averaged; below 100 is better than the reference",
        "corruptions",
        RowFilter(CORRUPTED),
        "derived",
        better=-1,
        bounds=AMOUNT,
        source=HENDRYCKS,
        table="",
    ),
    Metric(
        "relative_mce",
        "relative mCE",
        "mean corruption error of the increase over the clean error",
        "corruptions",
        RowFilter(CORRUPTED),
        "derived",
        better=-1,
        bounds=(-INFINITE, INFINITE),
        source=HENDRYCKS,
        table="",
        asked=True,
    ),
    Metric(
        "ratio",
        "corr./clean",
        "mean corrupted accuracy divided by clean accuracy",
        "corruptions",
        RowFilter(CORRUPTED),
        "derived",
        unit=NUMBER,
        bounds=AMOUNT,
        table="",
    ),
    Metric(
        "effective",
        "effective rob.",
        "effective robustness: log odds of corrupted accuracy minus those of clean accuracy",
        "corruptions",
        RowFilter(CORRUPTED),
        "derived",
        unit=NUMBER,
        bounds=(-INFINITE, INFINITE),
        source="arXiv:2007.00644",
        table="",
        asked=True,
    ),
)
for _family in FAMILIES:
    METRICS(
        Metric(
            _family,
            _family,
            f"accuracy under {'digital corruptions' if _family == 'digital' else _family}",
            "corruptions",
            RowFilter(CORRUPTED, groups=(_family,)),
            source=HENDRYCKS,
            table="accuracy by family",
        )
    )


METRICS(
    Metric(
        "bar",
        "C-bar",
        "mean accuracy under the corruptions of C-bar: over severities, then over corruptions",
        BAR,
        RowFilter((BAR,)),
        source=MINTUN,
        table="C-bar",
        rare=True,
    )
)
for _family in BAR_FAMILIES:
    METRICS(
        Metric(
            f"bar_{_family}",
            f"C-bar {_family}",
            f"accuracy under C-bar's {_family}",
            BAR,
            RowFilter((BAR,), groups=(_family,)),
            source=MINTUN,
            table="C-bar",
            rare=True,
        )
    )


def accuracy_under(corruption: Corruption) -> Metric:
    """Return the metric of one corruption, averaged over its severities."""
    words = corruption.name.replace("_", " ")
    return Metric(
        corruption.name,
        words,
        f"accuracy under {words}",
        _suite(corruption),
        RowFilter((BAR,) if corruption.bar else CORRUPTED, conditions=(corruption.name,)),
        source=MINTUN if corruption.bar else HENDRYCKS,
        table="",
        asked=True,
        rare=bool(corruption.bar),
    )


def accuracy_on(folder: str) -> Metric:
    """Return the metric of a folder of shifted images."""
    return Metric(
        f"{SHIFTED}_{folder}",
        folder,
        f"accuracy on the images of {folder}, among its classes",
        "corruptions",
        RowFilter((SHIFTED,), conditions=(folder,)),
        table="shifted images",
    )
