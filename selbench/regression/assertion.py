"""The check from inside a test: any network, any images."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from selbench.datasets import Dataset, Split
from selbench.datasets.dataset import make_split
from selbench.device import choose_device
from selbench.errors import SelbenchError
from selbench.regression import check
from selbench.regression.baseline import read_baseline, write_baseline
from selbench.regression.budget import seconds_of
from selbench.regression.comparison import TOLERANCE
from selbench.regression.evaluation import Model
from selbench.regression.report import Report, basis, headline, sentence
from selbench.suites import Setting, collect
from selbench.training import weights_hash

Data = Split | Dataset | tuple[Tensor, Tensor]


def assert_robust(
    model: nn.Module | Sequence[nn.Module],
    data: Data,
    baseline: Path,
    *,
    tolerance: float = TOLERANCE,
    suites: Sequence[str] = ("corruptions",),
    limit: int | None = None,
    budget: str | None = None,
    device: str = "cpu",
    update: bool = False,
    name: str = "model",
) -> Report | None:
    """Compare a model with a baseline; see `selbench.pytest_plugin.assert_robust`."""
    check.check_tolerance(tolerance)
    test, place = _split(data), choose_device(device)
    tested = _model(model, name, data.name if isinstance(data, Dataset) else "data")
    if update:
        pieces = collect(tuple(suites), Setting(*test.images.shape[-2:]))
        write_baseline(check.record(tested, pieces, test, suites, limit, place), baseline)
        return None
    report = _compared(tested, test, baseline, tolerance, suites, limit, budget, place)
    if report.failed:
        lines = [sentence(report, change) for change in report.comparison.worse]
        raise AssertionError("\n".join([headline(report), *lines, basis(report)]))
    return report


def _compared(
    model: Model,
    test: Split,
    path: Path,
    tolerance: float,
    suites: Sequence[str],
    limit: int | None,
    budget: str | None,
    device: torch.device,
) -> Report:
    baseline = read_baseline(path)
    check.check_data(baseline, model.dataset, test, limit)
    pieces = collect(tuple(suites), Setting(*test.images.shape[-2:]))
    chosen = check.plan(baseline, pieces, suites, limit)
    if budget is not None:
        chosen = check.within(seconds_of(budget), chosen, model, test)
    found = check.run(model, baseline, chosen, test, device, tolerance=tolerance)
    return Report(found, baseline, model.subject)


def _split(data: Data) -> Split:
    if isinstance(data, Dataset):
        return data.test
    if isinstance(data, Split):
        return data
    images, labels = data
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise SelbenchError(
            "images are uint8 of batch x 3 x height x width, got "
            f"{images.dtype} of {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise SelbenchError(
            f"labels are int64, one per image ({len(images)}), got {labels.dtype} of "
            f"{tuple(labels.shape)}"
        )
    return make_split(images.cpu(), labels.cpu())


def _model(model: nn.Module | Sequence[nn.Module], name: str, dataset: str) -> Model:
    # Copies: evaluation freezes them and moves them to a device.
    networks = [deepcopy(each) for each in ([model] if isinstance(model, nn.Module) else model)]
    if not networks:
        raise SelbenchError("there is no network to compare; give one, or several of one model")
    return Model(
        subject=name,
        networks=networks,
        names=[f"{name} {number}" for number in range(len(networks))],
        weights=[weights_hash(network.state_dict()) for network in networks],
        training="",
        architecture={"name": type(networks[0]).__name__},
        study="",
        dataset=dataset,
    )
