"""A plugin of pytest: assert that a model is as robust as its baseline.

This module imports neither torch nor the rest of selbench, since pytest imports it at every start.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from selbench.regression.assertion import Data
    from selbench.regression.summary import Report

USED = pytest.StashKey[dict[Path, str]]()  # default files, and the ids of the tests that use them


def assert_robust(
    model: "nn.Module | Sequence[nn.Module]",
    data: "Data",
    baseline: str | Path,
    **options: Any,
) -> "Report | None":
    """Fail if a model got worse than its baseline.

    Args:
        model: maps images in [0, 1] to logits; or several, trained with different seeds.
        data: images with labels, as for `selbench.evaluate`: a pair of tensors or arrays, a data
            set of torch, the result of `selbench.datasets.load_dataset`, or its `test`.
        baseline: a file of `selbench baseline`, or of this function with `update=True`.
        options: `tolerance` (0.01), `suites` ("corruptions", or a list), `limit`, `budget` ("60s"),
            `device` ("cpu"), `name` of the model, `scale` (32, 64 or 224: the image size whose
            corruption constants are used, for images of a size without constants), `detect` (3:
            also fail if a drop of so many points could not be found), `logits` (which of several
            outputs are the logits), and `update` (write the baseline, compare nothing).

    Raises:
        AssertionError: if it got worse; with the conditions, differences and p-values.
        SelbenchError: if it cannot be compared.
    """
    from selbench.regression.assertion import assert_robust as compare

    return compare(model, data, Path(baseline), **options)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes baselines."""
    group = parser.getgroup("selbench")
    group.addoption(
        "--selbench-update",
        action="store_true",
        help="Write the baselines of selbench_check instead of comparing with them.",
    )


@pytest.fixture
def selbench_check(request: pytest.FixtureRequest) -> Callable[..., "Report | None"]:
    """Return `assert_robust`; the default baseline is a file next to the test, named after it.

    A relative baseline is relative to the folder of the test. With --selbench-update it is
    written instead.

    Raises:
        SelbenchError: if two tests, or two calls in a test, share a default file.
    """
    calls = count(1)

    def check(model: Any, data: Any, baseline: str | Path | None = None, **options: Any) -> Any:
        path = request.path.parent / (baseline or _default(request))
        if not baseline:
            _check_unused(path, request, next(calls))
        options.setdefault("update", request.config.getoption("--selbench-update"))
        return assert_robust(model, data, path, **options)

    return check


def _default(request: pytest.FixtureRequest) -> str:
    """Return a file named after the test and its file; different ids may give the same name."""
    within = request.node.nodeid.partition("::")[2] or request.node.name
    words = f"{request.path.stem}-{within}".replace("::", "-")
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in words)
    return f"{name}.baseline.json"


def _check_unused(path: Path, request: pytest.FixtureRequest, call: int) -> None:
    """Refuse a default file that another test, or an earlier call in this test, has used."""
    from selbench._kit.errors import SelbenchError

    test = request.node.nodeid
    user = request.config.stash.setdefault(USED, {}).setdefault(path, test)
    if user != test or call > 1:
        others = f"{user} and {test}" if user != test else f"several calls in {test}"
        raise SelbenchError(
            f"{others} would share {path.name}; name a file for each with the argument "
            'baseline="FILE.json" of selbench_check'
        )
