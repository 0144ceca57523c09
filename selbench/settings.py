"""Settings of suites on the command line, which replace those of a study."""

from collections.abc import Mapping, Sequence
from itertools import chain

from pydantic import ValidationError

from selbench._kit.errors import SelbenchError
from selbench._kit.frozen import first_problem
from selbench.study import Study

# The options, and the table and the key of a study that each replaces.
SETTINGS = {
    "layers": ("mechanism", "layers"),
    "columns": ("mechanism", "columns"),
    "estimator": ("mechanism", "estimator"),
    "sigma": ("smoothing", "sigmas"),
    "draws": ("smoothing", "draws"),
    "error": ("probability", "error"),
    "confidence": ("probability", "confidence"),
    "method": ("probability", "method"),
}
OF_ONE_SUITE = ("smoothing", "probability")  # tables with the name of the suite that reads them


def settled(study: Study, given: Mapping[str, object], suites: Sequence[str] = ()) -> Study:
    """Return a study with the `given` settings, by option, instead of its own; None for its own.

    Args:
        study: the study.
        given: the values of options.
        suites: the suites of the run; () for the study's.

    Raises:
        SelbenchError: for a value out of range, and an option of a suite that does not run.
    """
    for option, value in given.items():
        table, key = SETTINGS[option]
        if value is None:
            continue
        if table in OF_ONE_SUITE and table not in (suites or study.suites):
            raise SelbenchError(
                f"--{option} is for the suite {table}; add --suite {table}, or leave it out"
            )
        spec = getattr(study, table)
        try:
            changed = type(spec).model_validate(spec.model_dump() | {key: value})
        except ValidationError as problem:
            error = first_problem(problem)
            raise SelbenchError(f"--{option} {error['input']!r:.60}: {error['msg']}") from problem
        study = study.model_copy(update={table: changed})
    return study


def numbers(option: str, words: Sequence[str] | None) -> tuple[float, ...] | None:
    """Return the numbers of an option that may be repeated or have commas; None for none.

    Raises:
        SelbenchError: for words that are no numbers.
    """
    if not words:
        return None
    parts = [*chain.from_iterable(word.split(",") for word in words)]
    try:
        return tuple(map(float, parts))
    except ValueError as problem:
        raise SelbenchError(
            f"--{option} takes numbers such as 0.25 or 0.12,0.5, got {','.join(parts)!r:.60}"
        ) from problem
