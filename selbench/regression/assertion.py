"""The regression check within a test, for any network and any images."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from selbench._kit.device import choose_device, usual_settings
from selbench._kit.errors import SelbenchError
from selbench._kit.outputs import BASELINE, check_file
from selbench.datasets import Dataset, dataset_of
from selbench.networks.logits import chosen, key_of
from selbench.networks.modules import evaluation_copy, module_of, outputs_of
from selbench.networks.network import Network
from selbench.networks.probe import probe
from selbench.regression import check
from selbench.regression.baseline import read_baseline, write_baseline
from selbench.regression.budget import seconds_of
from selbench.regression.comparison import TOLERANCE
from selbench.regression.correctness import Candidate, Place, looked_at
from selbench.regression.summary import Report, basis, headline, sentence
from selbench.sets.treatment import choose_scale
from selbench.suites import Setting
from selbench.training import weights_hash

REMEDY = "`pytest --selbench-update`, or with update=True"
Data = Any  # what `selbench.datasets.dataset_of` accepts


@usual_settings()
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
    detect: Any = None,
    logits: str | None = None,
) -> Report | None:
    """Compare a model with a baseline; see `selbench.pytest_plugin.assert_robust`.

    Arguments of type `Any` are checked before use.
    """
    check.check_tolerance(tolerance)
    check.check_detect(detect, tolerance)
    _check_limit(limit)
    seconds = None if budget is None else seconds_of(budget)
    if update:
        check_file(baseline, BASELINE, "baseline")
    names = (suites,) if isinstance(suites, str) else tuple(suites)
    modules = _networks(model)
    dataset = _dataset(data, modules[0])
    place = Place(dataset, choose_device(device))
    height, width = dataset.test.images.shape[-2:]
    setting = Setting(height, width, choose_scale(scale))
    candidate = _candidate(modules, name, dataset, logits)
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
    return _passed(Report(found, recorded, candidate.subject, candidate.findings, detect))


def _passed(report: Report) -> Report:
    if report.failed:
        lines = [sentence(report, change) for change in report.comparison.worse]
        raise AssertionError("\n".join([headline(report), *lines, basis(report), *report.findings]))
    return report


def _check_limit(limit: object) -> None:
    if limit is not None and (type(limit) is not int or limit < 2):
        raise SelbenchError(f"limit is a number of test images, at least 2, got {limit!r}")


def _dataset(data: object, module: nn.Module) -> Dataset:
    """Return the given data set; without known classes, they are the network's outputs."""
    dataset = dataset_of(data, partial(outputs_of, module))
    if len(dataset.test) < 2:
        raise SelbenchError(f"a comparison needs at least 2 test images, got {len(dataset.test)}")
    return dataset


def _candidate(
    given: Sequence[nn.Module], name: str, dataset: Dataset, logits: str | None
) -> Candidate:
    modules = [evaluation_copy(each, name) for each in given]
    kind = type(modules[0]).__name__
    networks = []
    for number, each in enumerate(modules):
        full_name = f"{name} {number}"
        module = chosen(each, key_of(each, dataset, full_name, logits))
        _check_outputs(module, full_name, dataset)
        weights = weights_hash(module.state_dict())
        networks.append(Network(full_name, None, None, "", kind, weights, module.cpu))
    candidate = Candidate(
        subject=name,
        networks=networks,
        architecture={"name": kind},
        study="",
        dataset=dataset.name,
    )
    return looked_at(candidate, dataset)


def _networks(model: object) -> list[nn.Module]:
    networks: list[nn.Module] = []
    for each in model if isinstance(model, list | tuple) else [model]:
        try:
            networks.append(module_of(each))
        except SelbenchError as problem:
            raise SelbenchError(
                "model is a torch.nn.Module, or a list of several of one model: "
                f"{str(problem).partition(', got ')[2]}"
            ) from problem
    if not networks:
        raise SelbenchError("there is no network to compare; give one, or several of one model")
    return networks


def _check_outputs(network: nn.Module, name: str, dataset: Dataset) -> None:
    """Refuse a network without a finite logit for every label."""
    outputs, last = probe(network, dataset, name).shape[1], int(dataset.test.labels.max())
    if outputs <= last:
        raise SelbenchError(
            f"{name} has {outputs} outputs, for the classes 0 to {outputs - 1}, but there is the "
            f"label {last}; use a network for these classes"
        )
