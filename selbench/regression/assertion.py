"""The check from inside a test: any network, any images."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selbench.bring.probe import probe
from selbench.corrupted.treatment import choose_scale
from selbench.datasets import Dataset, Split
from selbench.datasets.dataset import make_split
from selbench.device import choose_device
from selbench.errors import SelbenchError
from selbench.outputs import BASELINE, check_file
from selbench.regression import check
from selbench.regression.baseline import read_baseline, write_baseline
from selbench.regression.budget import seconds_of
from selbench.regression.comparison import TOLERANCE
from selbench.regression.evaluation import Candidate, Place, looked_at
from selbench.regression.report import Report, basis, headline, sentence
from selbench.subjects import Network
from selbench.suites import Setting
from selbench.training import weights_hash

REMEDY = "`pytest --selbench-update`, or with update=True"
Data = Split | Dataset | tuple[Tensor, Tensor]


def assert_robust(
    model: Any,
    data: Any,
    baseline: Path,
    *,
    tolerance: Any = TOLERANCE,
    suites: str | Sequence[str] = ("corruptions",),
    limit: Any = None,
    budget: Any = None,
    device: str = "cpu",
    update: bool = False,
    name: str = "model",
    scale: int | None = None,
) -> Report | None:
    """Compare a model with a baseline; see `selbench.pytest_plugin.assert_robust`.

    What is `Any` here is looked at before it is used.
    """
    check.check_tolerance(tolerance)
    _check_limit(limit)
    seconds = None if budget is None else seconds_of(budget)
    if update:
        check_file(baseline, BASELINE, "baseline")
    names = (suites,) if isinstance(suites, str) else tuple(suites)
    dataset = _dataset(data)
    place = Place(dataset, choose_device(device))
    height, width = dataset.test.images.shape[-2:]
    setting = Setting(height, width, choose_scale(scale))
    candidate = _candidate(model, name, dataset)
    if update:
        chosen = check.plan_baseline(names, setting, dataset.test, limit)
        write_baseline(check.record(candidate, chosen, place), baseline)
        return None
    recorded = read_baseline(baseline, REMEDY)
    check.check_data(recorded, dataset.name, dataset.test, limit)
    chosen = check.plan(recorded, names, setting, limit)
    if seconds is not None:
        chosen = check.within(seconds, chosen, candidate, dataset.test)
    found = check.run(candidate, recorded, chosen, place, tolerance)
    return _passed(Report(found, recorded, candidate.subject, candidate.findings))


def _passed(report: Report) -> Report:
    if report.failed:
        lines = [sentence(report, change) for change in report.comparison.worse]
        raise AssertionError("\n".join([headline(report), *lines, basis(report), *report.findings]))
    return report


def _check_limit(limit: object) -> None:
    if limit is not None and (not isinstance(limit, int) or limit < 2):
        raise SelbenchError(f"limit is a number of test images, at least 2, got {limit!r}")


def _dataset(data: object) -> Dataset:
    """Return the data set that is given, or one without names of classes."""
    if isinstance(data, Dataset):
        return data
    test = data if isinstance(data, Split) else _split(data)
    if len(test) < 2:
        raise SelbenchError(f"a comparison takes at least 2 test images, got {len(test)}")
    if test.labels.min() < 0:
        raise SelbenchError(
            f"labels are numbers of classes, from 0, got {int(test.labels.min())}; leave out "
            "images without a class"
        )
    return Dataset("data", (), test, test)


def _split(data: object) -> Split:
    pair = tuple(data) if isinstance(data, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(each, Tensor) for each in pair):
        raise SelbenchError(
            "data is a pair of tensors, images and labels, or what "
            f"selbench.datasets.load_dataset returns, got a {type(data).__name__}"
        )
    images, labels = pair
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


def _candidate(model: object, name: str, dataset: Dataset) -> Candidate:
    modules = [_copied(each) for each in _networks(model)]
    kind = type(modules[0]).__name__
    networks = []
    for number, module in enumerate(modules):
        own = f"{name} {number}"
        _check_outputs(module, own, dataset)
        weights = weights_hash(module.state_dict())
        networks.append(Network(own, None, None, "", kind, weights, partial(_itself, module)))
    candidate = Candidate(
        subject=name,
        networks=networks,
        architecture={"name": kind},
        study="",
        dataset=dataset.name,
    )
    return looked_at(candidate, dataset)


def _itself(module: nn.Module) -> nn.Module:
    return module


def _networks(model: object) -> list[nn.Module]:
    networks: list[nn.Module] = []
    for each in model if isinstance(model, Sequence) else [model]:
        if not isinstance(each, nn.Module):
            raise SelbenchError(
                "model is a torch.nn.Module, or a list of several of one model, got a "
                f"{type(each).__name__}"
            )
        networks.append(each)
    if not networks:
        raise SelbenchError("there is no network to compare; give one, or several of one model")
    return networks


def _copied(network: nn.Module) -> nn.Module:
    """Return a copy on the CPU in evaluation mode: evaluation freezes networks and moves them."""
    return deepcopy(network).cpu().eval()


def _check_outputs(network: nn.Module, name: str, dataset: Dataset) -> None:
    """Refuse a network that does not return a finite logit for every class that labels name."""
    outputs, last = probe(network, dataset, name).shape[1], int(dataset.test.labels.max())
    if outputs <= last:
        raise SelbenchError(
            f"{name} has {outputs} outputs, for the classes 0 to {outputs - 1}, but there is the "
            f"label {last}; bring a network for these classes"
        )
