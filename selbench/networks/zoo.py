"""Sources of users' networks; each kind of spec is one function under one decorator."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pickle import UnpicklingError

from torch import nn

from selbench._kit.errors import SelbenchError, in_short
from selbench._kit.randomness import dice
from selbench._kit.registry import Registry
from selbench.datasets import Dataset
from selbench.models import load_weights, outputs_in
from selbench.networks.classes import other_number
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs

SAFE, UNSAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Resolved:
    """A network from a zoo.

    Attributes:
        network: the network, for images that `inputs` preprocessed.
        inputs: the declared preprocessing.
        note: distinguishes networks of the same spec, such as "random" or "L2"; may be "".
        architecture: the name for tables.
        source: what else its outputs depend on: a hash of the user's code, or an option.
    """

    network: nn.Module
    inputs: Inputs
    note: str
    architecture: str
    source: str = ""


# Arguments: the text after the colon, the user's description, the data set and the number of
# # outputs; None for the zoo's number, if a class map chooses among the outputs.
Zoo = Callable[[str, NetworkSpec, Dataset, int | None], Resolved]
ZOOS = Registry[Zoo]("kind of model")


@contextmanager
def careful_loading() -> Iterator[None]:
    """Run foreign code without pickles, with seeded random weights, and printing to stderr.

    Some libraries load full pickles with torch, which can run code; here they get weights only.
    Standard output is reserved for the command's result.
    """
    before = {name: os.environ.pop(name, None) for name in (SAFE, UNSAFE)}
    os.environ[SAFE] = "1"
    try:
        with (
            dice(0),
            redirect_stdout(sys.stderr),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # about deprecations among libraries
            yield
    finally:
        del os.environ[SAFE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def built(
    make: Callable[[int | None], nn.Module],
    brought: NetworkSpec,
    dataset: Dataset,
    classes: int | None,
) -> nn.Module:
    """Build a network, and load the user's file if there is one.

    Args:
        make: builds it with a number of outputs; None for the zoo's number.
        brought: the user's description.
        dataset: the data set, for messages.
        classes: the number of outputs; None for that of the file.

    Raises:
        SelbenchError: as `load_weights`, and for a file that fits but for its number of outputs.
    """
    weights = brought.weights
    with careful_loading():
        network = make(classes)
        if weights and classes is None:
            network = make(outputs_in(weights, network))
    try:
        filled(network, brought)
    except SelbenchError:
        outputs = outputs_in(weights, network) if weights and classes else None
        if outputs in (None, classes):
            raise
        built(make, brought, dataset, None)  # raises if that is not all
        raise other_number(str(weights), outputs, dataset) from None
    return network


def filled(network: nn.Module, brought: NetworkSpec) -> None:
    """Load the user's file into a network, if there is one."""
    if brought.weights:
        load_weights(network, brought.weights, *([brought.entry] if brought.entry else []))


def refuse(spec: str, **given: object) -> None:
    """Refuse options that do not apply to the source of a network."""
    options = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if options:
        raise SelbenchError(
            f"{' and '.join(options)} does not apply to {spec}; leave it out, or evaluate "
            "this network in another command"
        )


def reason_of(problem: BaseException) -> str:
    """Return the error of foreign code in one line; for a connection, the root cause."""
    chain = [problem]
    while before := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(before)
    if isinstance(problem, OSError):
        problem = [each for each in chain if isinstance(each, OSError)][-1]
    if isinstance(problem, UnpicklingError):  # torch advises to let it run code
        return "UnpicklingError: it holds more than weights, or is damaged"
    lines = str(problem).strip().splitlines()
    if lines and "TorchScript interpreter" in lines[0]:  # the reason follows its traceback
        return in_short(lines[-1])
    return in_short(f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__)
