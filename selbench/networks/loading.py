"""Load a user's network, and check that it can be evaluated."""

import os
from collections.abc import Callable
from dataclasses import replace

from pydantic import ValidationError
from torch import nn

from selbench._kit.deadline import Clock, OutOfTimeError
from selbench._kit.errors import SelbenchError
from selbench._kit.files import fingerprint
from selbench._kit.frozen import first_problem
from selbench._kit.registry import discover
from selbench.datasets import Dataset
from selbench.models import TOP, Normalize, fitting
from selbench.networks.adhoc import NONE
from selbench.networks.classes import MappedClasses, Outputs, read_class_map
from selbench.networks.code import from_code
from selbench.networks.described import NetworkSpec, check_source
from selbench.networks.identity import code_and_settings, hidden, settings
from selbench.networks.inputs import Inputs, Preprocess
from selbench.networks.logits import chosen, key_of
from selbench.networks.network import Network
from selbench.networks.probe import WARM, check_logits, probe
from selbench.networks.shipped import of_study
from selbench.networks.zoo import ZOOS, Resolved
from selbench.study import ModelSpec
from selbench.training import weights_hash

USUAL = ("state_dict", "model_state_dict", "model", "net")  # where a file usually has its weights


def bring(brought: NetworkSpec, model: ModelSpec, dataset: Dataset) -> Network:
    """Load a user's network, and check it on two test images.

    Args:
        brought: the user's description.
        model: the study's architecture, for a checkpoint without a spec.
        dataset: the data set, whose images it must accept and whose classes it must have.

    Raises:
        SelbenchError: for a spec that cannot be resolved, weights that do not fit, and a network
            without one finite logit for every class.
    """
    checked = _checked(brought)
    outputs = _outputs(brought, dataset)
    found = _resolved(checked, model, dataset, None if outputs else len(dataset.classes))
    inputs = _fitting(_overridden(found.inputs, brought), dataset)

    def identity(module: nn.Module, key: str | None) -> str:
        return _identity(module, found, inputs, outputs, key)

    network = _subject(
        found.network, _name(brought, found), brought, inputs, dataset, found.architecture, identity
    )
    return replace(network, about=network.about + _origin(checked, found))


def network_of(
    model: nn.Module, name: str, dataset: Dataset, spec: NetworkSpec | None = None
) -> Network:
    """Return the network of a Python module, which maps images in [0, 1] to logits.

    Of the user's description `spec`, only normalisation, size of images, outputs and classes count.
    """
    spec = _checked(spec or NetworkSpec())
    outputs, size = _outputs(spec, dataset), spec.input_size
    inputs = Inputs(mean=spec.mean, std=spec.std, resize=size, crop=size)

    def identity(module: nn.Module, key: str | None) -> str:
        facts = [
            weights_hash(module.state_dict()),
            repr(model),
            *code_and_settings(model),
            *hidden(model),
        ]
        more = [str(inputs), outputs, key]
        return fingerprint([*facts, *(more if any([inputs != Inputs(), outputs, key]) else [])])

    kind = type(model).__name__
    network = _subject(model, name, spec, inputs, dataset, kind, identity)
    return replace(network, about=f"{network.about}; made of {fingerprint(settings(model))}")


def _outputs(spec: NetworkSpec, dataset: Dataset) -> Outputs | None:
    return read_class_map(spec.class_map, dataset.classes) if spec.class_map else None


def _subject(
    model: nn.Module,
    name: str,
    spec: NetworkSpec,
    inputs: Inputs,
    dataset: Dataset,
    architecture: str,
    identity: Callable[[nn.Module, str | None], str],
) -> Network:
    """Assemble a network, and check that it returns logits for images.

    A network that does not answer in time fails in every cell at once.
    """
    network, outputs, key = _assembled(model, inputs).eval(), _outputs(spec, dataset), None
    late: OutOfTimeError | None = None
    try:
        with Clock(None if spec.time_limit is None else spec.time_limit + WARM).running():
            key = key_of(network, dataset, name, spec.logits, mapped=bool(outputs))
            network = chosen(network, key)
            check_logits(probe(network, dataset, name), outputs, dataset, name)
    except OutOfTimeError as problem:
        late = problem
    mapped: nn.Module = MappedClasses(network, outputs) if outputs else network
    made = Network(
        name=name,
        alpha=None,
        seed=None,
        training="",
        architecture=architecture,
        weights=identity(mapped, key),
        load=lambda: mapped,
        about=_about(network, inputs, outputs, dataset)
        + (f"; its output {key} is used as logits" if key else ""),
    )
    return made.unanswering(late) if late else made


def _checked(brought: NetworkSpec) -> NetworkSpec:
    """Return `brought` after a check of its normalisation."""
    try:
        ModelSpec(name="brought", mean=brought.mean, std=brought.std)
    except ValidationError as problem:
        message = first_problem(problem)["msg"]
        what = brought.spec or brought.weights
        raise SelbenchError(f"--mean or --std of {what}: {message}") from problem
    if brought.entry and not brought.weights:
        raise SelbenchError(
            f"--entry {brought.entry} names weights in a file; give the file with --weights, or "
            "leave it out"
        )
    return replace(brought, weights=brought.weights and brought.weights.expanduser())


def _resolved(
    brought: NetworkSpec, model: ModelSpec, dataset: Dataset, classes: int | None
) -> Resolved:
    """Return the network that the spec names."""
    if not brought.spec and model.name == NONE:
        raise SelbenchError(
            f"--checkpoint {brought.weights} needs the model of a study, and there is none; "
            f"name it: --model selbench:resnet20 --weights {brought.weights}, for example"
        )
    if not brought.spec:
        given = {"mean": brought.mean or model.mean, "std": brought.std or model.std}
        return of_study(model.model_copy(update=given), brought, dataset, classes)
    check_source(brought.spec, ZOOS)
    kind, _, name = brought.spec.partition(":")
    if kind in ZOOS:
        if brought.pretrained and brought.weights:
            raise SelbenchError(
                "--pretrained and --weights are two sources of weights; leave out one of them"
            )
        return ZOOS[kind](name, brought, dataset, classes)
    return from_code(brought, dataset, classes)


def _name(brought: NetworkSpec, found: Resolved) -> str:
    """Return a name from the user's description."""
    notes = [found.note] if found.note else []
    notes += [brought.entry] if brought.entry else []
    notes += [f"input size {brought.input_size}"] if brought.input_size else []
    notes += [f"output {brought.logits}"] if brought.logits else []
    notes += [f"classes of {brought.class_map.name}"] if brought.class_map else []
    parts = [brought.spec, str(brought.weights or ""), f"({', '.join(notes)})" if notes else ""]
    name = " ".join(part for part in parts if part)
    # A path may have any bytes; tables are UTF-8.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _overridden(declared: Inputs, brought: NetworkSpec) -> Inputs:
    """Return the declared preprocessing, with the user's options instead of its values."""
    if brought.spec.partition(":")[0] != "selbench" and brought.spec:  # its first layer normalises
        declared = replace(
            declared, mean=brought.mean or declared.mean, std=brought.std or declared.std
        )
    if brought.input_size is None:
        return declared
    return replace(declared, resize=brought.input_size, crop=brought.input_size)


def _fitting(inputs: Inputs, dataset: Dataset) -> Inputs:
    """Return the preprocessing that remains for images scaled and cropped on loading."""
    side = inputs.crop or inputs.resize
    done = dataset.framed and set(dataset.test.images.shape[-2:]) == {side}
    return replace(inputs, resize=None, crop=None) if done else inputs


def _assembled(network: nn.Module, inputs: Inputs) -> nn.Module:
    if inputs == Inputs() and isinstance(getattr(network, "normalize", None), Normalize):
        return network  # a network of selbench, which has no preprocessing
    return nn.Sequential(Preprocess(inputs), network)


def _about(network: nn.Module, inputs: Inputs, outputs: Outputs | None, dataset: Dataset) -> str:
    """Return the inputs and outputs of a network in one line."""
    for each in network.modules():
        if isinstance(each, Normalize):
            mean, std = each.mean.flatten().tolist(), each.std.flatten().tolist()
            inputs = replace(inputs, mean=tuple(mean), std=tuple(std))
    chosen = "" if outputs is None else f" from {sum(map(len, outputs))} outputs"
    return f"images in [0, 1], {inputs}; {len(dataset.classes)} logits{chosen}; evaluation mode"


def _origin(brought: NetworkSpec, found: Resolved) -> str:
    """Return which weights of a file were loaded, if others exist or the choice is unusual."""
    if brought.weights is None or brought.spec.startswith("robustbench:"):
        return ""
    chosen, *others = fitting(found.network, brought.weights, brought.entry)
    if not others:
        return "" if chosen in (TOP, *USUAL) else f"; weights of {chosen}"
    return f"; weights of {chosen} (there are also {', '.join(others)}: --entry chooses)"


def _identity(
    network: nn.Module, found: Resolved, inputs: Inputs, outputs: Outputs | None, key: str | None
) -> str:
    """Hash all that the logits depend on: weights, pre- and postprocessing, the user's code."""
    weights = weights_hash(network.state_dict())
    if inputs == Inputs() and outputs is None and not found.source and key is None:
        return weights
    more = [*hidden(found.network)] if found.source else []
    more += [f"output {key}"] if key else []
    return fingerprint([weights, str(inputs), outputs, found.architecture, found.source, *more])


discover("selbench.networks")  # registers the zoos
