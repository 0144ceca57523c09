"""Networks that a function of the user builds; this runs the user's code."""

import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import fingerprint
from selbench.datasets import Dataset
from selbench.networks.described import NetworkSpec, importable, unresolved
from selbench.networks.inputs import Inputs
from selbench.networks.modules import module_of
from selbench.networks.zoo import ZOOS, Resolved, careful_loading, filled, reason_of, refuse

INSTALLED = [Path(sysconfig.get_path(each)) for each in ("stdlib", "purelib", "platlib")]
NUMBER = ("classes", "num_classes")  # parameters of a factory for the number of outputs


def from_code(brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Call `path/to/file.py:factory` or `package.module:factory`; it must return a module.

    A factory with a parameter `classes` or `num_classes` gets the number of classes. Torch is
    seeded before the call, so that random weights are the same each time.

    Raises:
        SelbenchError: if the file, module or factory is missing or raises.
    """
    refuse(brought.spec, pretrained=brought.pretrained, threat_model=brought.threat_model)
    where, _, name = brought.spec.rpartition(":")
    module = _module(where)
    factories = {n: f for n, f in vars(module).items() if callable(f) and n[0] != "_"}
    factory = getattr(module, name, None)
    if not callable(factory):
        raise unknown(f"factory in {where}", name, factories or ["none"])
    network = _call(factory, brought.spec, classes)
    filled(network, brought)
    inputs = Inputs(mean=brought.mean, std=brought.std)
    return Resolved(network, inputs, "", type(network).__name__, _source(module, network))


def _source(module: ModuleType, network: nn.Module) -> str:
    """Return a hash of the user's files that define the factory and the network's modules."""
    names = {type(each).__module__ for each in network.modules()}
    modules = [module, *(sys.modules[name] for name in names if name in sys.modules)]
    files = {
        Path(file)
        for each in modules
        if (each is module or not is_installed(each)) and (file := getattr(each, "__file__", None))
    }
    return fingerprint([path.read_text(errors="replace") for path in sorted(files)])


def is_installed(module: ModuleType) -> bool:
    """Return whether a module belongs to Python, selbench or a package, not to the user."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] in ("selbench", "corruptions"):
        return module.__name__ != "__main__"
    return any(Path(file).is_relative_to(folder) for folder in INSTALLED)


def _call(factory: Callable[..., Any], spec: str, classes: int | None) -> nn.Module:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # for a function in C
        parameters = {}  # type: ignore[assignment]
    options = {} if classes is None else {name: classes for name in NUMBER if name in parameters}
    try:
        with careful_loading():
            network = factory(**options)
            if isinstance(network, nn.Module | ExportedProgram):
                network = module_of(network).cpu()  # where it is probed
    except SystemExit as problem:
        raise _ended(spec, problem) from problem
    except Exception as problem:  # it is the user's code
        raise SelbenchError(
            f"{spec} cannot be called ({_reason(problem)}); it must work without arguments, or "
            "with num_classes alone"
        ) from problem
    if not isinstance(network, nn.Module):
        raise SelbenchError(
            f"{spec} returned a {type(network).__name__}, not a torch.nn.Module; name a function "
            "that builds the network"
        )
    return network


def _module(where: str) -> ModuleType:
    """Import a file or a module; it can import from its folder or the current one."""
    path = Path(where).expanduser()
    is_file = path.suffix == ".py"
    try:
        with importable(path.absolute().parent if is_file else Path.cwd()), careful_loading():
            return _import_file(path) if is_file else importlib.import_module(where)
    except ModuleNotFoundError as problem:
        if not is_file and where.startswith(str(problem.name)):
            raise unresolved(where, ZOOS) from problem
        raise SelbenchError(f"{where} cannot be imported ({_reason(problem)})") from problem
    except SystemExit as problem:
        raise _ended(where, problem) from problem
    except Exception as problem:  # it is the user's code
        raise SelbenchError(
            f"{where} cannot be imported ({_reason(problem)}); fix it, or choose another --model"
        ) from problem


def _import_file(path: Path) -> ModuleType:
    name = f"brought_{fingerprint(str(path.absolute()))}_{path.stem}"
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module  # dataclasses look up their module
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _ended(what: str, problem: SystemExit) -> SelbenchError:
    return SelbenchError(
        f"{what} ends the program ({_reason(problem)}), as sys.exit and argparse do; leave that to "
        "`if __name__ == '__main__':` at the end of the file"
    )


def _reason(problem: BaseException) -> str:
    """Return the reason of an error, and its line."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return reason_of(problem)
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
    return f"{reason_of(problem)}; {place}"
