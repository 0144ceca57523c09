"""A plugin of pytest: assert that a model is as robust as its baseline says.

Importing this module imports neither torch nor the rest of selbench: pytest does so at every start.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from selbench.regression.assertion import Data
    from selbench.regression.report import Report


def assert_robust(
    model: "nn.Module | Sequence[nn.Module]",
    data: "Data",
    baseline: str | Path,
    **options: Any,
) -> "Report | None":
    """Fail where a model got worse than its baseline.

    Args:
        model: images in [0, 1] in, logits out; or several, trained with other seeds.
        data: uint8 images (batch x 3 x height x width) with int64 labels; or what
            `selbench.datasets.load_dataset` returns, or its `test`.
        baseline: a file of `selbench baseline`, or of this function with `update=True`.
        options: `tolerance` (0.01), `suites` (("corruptions",)), `limit`, `budget` ("60s"),
            `device` ("cpu"), `name` of the model, and `update`: write the baseline, compare
            nothing.

    Raises:
        AssertionError: where it got worse; it says in what, by how much and how surely.
        SelbenchError: where it cannot be compared.
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
    """Return `assert_robust`; without `baseline` it is a file beside the test's, named after both.

    A relative baseline is relative to the folder of the test. With --selbench-update it is
    written instead.
    """

    def check(model: Any, data: Any, baseline: str | Path | None = None, **options: Any) -> Any:
        within = request.node.nodeid.partition("::")[2] or request.node.name
        words = f"{request.path.stem}-{within}".replace("::", "-")
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in words)
        path = request.path.parent / (baseline or f"{name}.baseline.json")
        options.setdefault("update", request.config.getoption("--selbench-update"))
        return assert_robust(model, data, path, **options)

    return check
