"""Labels of a claim's tests, if it has several."""

from collections.abc import Callable, Sequence

from selbench.claims.claim import Flags, Method, NoTrend, Test, Trend


def test_labels(tests: Sequence[Test]) -> list[str]:
    """Name tests by the properties in which they differ; "" if there is only one."""
    words = [[name(test) for name in _NAMES] for test in tests]
    differing = [len(set(column)) > 1 for column in zip(*words, strict=True)]
    return [
        ", ".join(word for word, differs in zip(line, differing, strict=True) if differs and word)
        for line in words
    ]


def _metric(test: Test) -> str:
    return "" if isinstance(test, Flags) else test.reading.metric


def _conditions(test: Test) -> str:
    if isinstance(test, Flags):
        return "flags"
    names = ", ".join(test.reading.conditions) or test.reading.suite
    left_out = ", ".join(test.reading.without)
    return f"{names} without {left_out}" if left_out else names


def _scale(test: Test) -> str:
    return "" if isinstance(test, Flags) else test.reading.to_clean or ""


def _range(test: Test) -> str:
    if not isinstance(test, Trend | NoTrend):
        return test.method if isinstance(test, Method) else ""
    return f"alpha from {test.between[0]:g} to {test.between[1]:g}"


_NAMES: tuple[Callable[[Test], str], ...] = (_metric, _conditions, _scale, _range)
