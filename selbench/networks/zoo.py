"""Where brought networks come from: a kind of spec is one function under one decorator."""

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
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs

SAFE, UNSAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Resolved:
    """A network as a zoo gives it.

    Attributes:
        network: takes what `inputs` makes of images in [0, 1].
        inputs: what its origin declares.
        note: what tells it from others of the same spec, such as "random" or "L2"; "" for nothing.
        architecture: name for tables.
        source: what else its outputs depend on: a hash of the user's code that made it, an option.
    """

    network: nn.Module
    inputs: Inputs
    note: str
    architecture: str
    source: str = ""


# From what follows the colon, what the user says, the data set and the number of outputs; None
# stands for the zoo's own number, where a class map chooses among them.
Zoo = Callable[[str, NetworkSpec, Dataset, int | None], Resolved]
ZOOS = Registry[Zoo]("kind of model")


@contextmanager
def careful_loading() -> Iterator[None]:
    """Have foreign code load no pickles, draw the same random weights each time, print nothing.

    Some libraries ask torch for whole pickles, which run code; here they get weights only. What
    they print goes to the standard error: the standard output is the command's result.
    """
    before = {name: os.environ.pop(name, None) for name in (SAFE, UNSAFE)}
    os.environ[SAFE] = "1"
    try:
        with (
            dice(0),
            redirect_stdout(sys.stderr),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of deprecations among libraries
            yield
    finally:
        del os.environ[SAFE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def built(
    make: Callable[[int | None], nn.Module], brought: NetworkSpec, classes: int | None
) -> nn.Module:
    """Build a network, and fill it from the user's file if there is one.

    Args:
        make: builds it with so many outputs; with the zoo's own number for None.
        brought: what the user says of it.
        classes: number of outputs; None for as many as the file has.
    """
    weights = brought.weights
    with careful_loading():
        network = make(classes)
        if weights and classes is None:
            network = make(outputs_in(weights, network))
    filled(network, brought)
    return network


def filled(network: nn.Module, brought: NetworkSpec) -> None:
    """Fill a network from the user's file, if there is one."""
    if brought.weights:
        load_weights(network, brought.weights, *([brought.entry] if brought.entry else []))


def refuse(spec: str, **given: object) -> None:
    """Refuse what the user says of a network but its origin has no use for."""
    options = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if options:
        raise SelbenchError(
            f"{' and '.join(options)} means nothing to {spec}; leave it out, or give the networks "
            "that it does belong to in a command of their own"
        )


def reason_of(problem: BaseException) -> str:
    """Say in one line what foreign code had to complain about; of a connection, the root cause."""
    chain = [problem]
    while before := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(before)
    if isinstance(problem, OSError):
        problem = [each for each in chain if isinstance(each, OSError)][-1]
    if isinstance(problem, UnpicklingError):  # torch's advice is to let it run code
        return "UnpicklingError: it holds more than weights, or is damaged"
    lines = str(problem).strip().splitlines()
    if lines and "TorchScript interpreter" in lines[0]:  # the reason is below its traceback
        return in_short(lines[-1])
    return in_short(f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__)
