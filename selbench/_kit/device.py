"""Selects the device and describes what it can do."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from threading import Lock
from typing import Any

import torch

from selbench import __version__
from selbench._kit.errors import SelbenchError, in_short


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" selects CUDA if available, otherwise the CPU.

    A GPU becomes the current one of this process, so that nothing is placed on another.

    Raises `SelbenchError` if this machine has no such device, or if the device lacks float64, which
    selectivity and some corruptions need (MPS).
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = check_device(name)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        with _usable(name):
            if device.index is not None:
                torch.cuda.set_device(device)
            torch.empty(1, device=device)
    return device


def check_device(name: str) -> torch.device:
    """Return the device called `name` without using it: no GPU memory is allocated.

    Raises `SelbenchError` if this machine has no such device.
    """
    with _usable(name):
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"only cpu and cuda are supported, not {device.type}")
        if device.type == "cuda":
            count = torch.cuda.device_count()
            if not count:
                torch.empty(1, device=device)  # raises the reason
            if (device.index or 0) >= count:
                raise RuntimeError(f"there is {', '.join(f'cuda:{n}' for n in range(count))}")
    return device


@contextmanager
def _usable(name: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, AssertionError) as problem:
        raise SelbenchError(
            f"device {name!r} cannot be used ({in_short(problem)}); try --device cpu"
        ) from problem


@contextmanager
def usual_settings() -> Iterator[None]:
    """Use selbench's settings of torch, whatever the caller has set.

    These are float32 on the CPU by default, and `measuring`.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:  # torch is slower with a default device, even the CPU
        with (
            nullcontext() if device.type == "cpu" else torch.device("cpu"),
            measuring(),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)


class _Shared:
    """A context manager for the whole process: active while any thread is inside."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make, self._lock, self._inside = make, Lock(), 0
        self._held = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._held.enter_context(self._make())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._held.close()


@contextmanager
def _precise() -> Iterator[None]:
    """Apply the settings of `measuring`.

    torch's older names come first: they cannot be read once the newer ones differ.
    """
    backends: Any = torch.backends
    with ExitStack() as stack:

        def change(owner: Any, name: str, value: object, back: object = None) -> None:
            before = getattr(owner, name)
            if before != value:
                setattr(owner, name, value)
                stack.callback(setattr, owner, name, before if back is None else back)

        change(backends.cudnn, "deterministic", True)
        change(backends.cudnn, "benchmark", False)
        try:
            change(backends.cudnn, "allow_tf32", False)
            before = torch.get_float32_matmul_precision()
            if before != "highest":
                torch.set_float32_matmul_precision("highest")
                stack.callback(torch.set_float32_matmul_precision, before)
        except RuntimeError:  # the caller uses the newer names
            pass
        for backend, operations in (
            (backends.cudnn, (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)),
            (
                backends.mkldnn,
                (backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul),
            ),
        ):
            for each in operations:
                if each.fp32_precision in ("tf32", "bf16"):
                    inherited = each.fp32_precision == backend.fp32_precision
                    change(each, "fp32_precision", "ieee", "none" if inherited else None)
        yield


measuring = _Shared(_precise)
"""Compute float32 in full, and to the same bits each time, while networks are measured.

TF32 moves logits of a ResNet20 by 4e-4 of the largest, and cuDNN may choose another kernel for
every run. The caller's settings come back afterwards.
"""


def faster_in_bfloat16(device: torch.device) -> bool:
    """Return whether `device` computes faster in bfloat16 than in float32.

    It depends on the kind of device only, not on a timing, so that training repeats to the byte. Of
    CPUs, those with AMX are. AVX512_BF16 alone multiplies no more numbers per cycle than float32
    does, and conversions come on top.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # torch 2.11 offers only a private name; if a later version drops it, float32 is used.
        supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return bool(supported())
    return False


def describe(device: torch.device) -> str:
    """Name the hardware, for manifests."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()})"
    return device.type


def versions() -> dict[str, str]:
    """Return the versions of packages that may affect numbers, for manifests."""
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"python": platform.python_version(), "selbench": __version__, **packages}


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Use CUDA's deterministic kernels where they exist; the CPU's always are."""
    if device.type != "cuda":
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
