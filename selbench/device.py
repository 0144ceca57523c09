"""Which device, and what it can do."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version

import torch

from selbench import __version__
from selbench.errors import SelbenchError, in_short


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" takes CUDA where there is one, else the CPU.

    Raises `SelbenchError` where this machine has no such device, and for kinds that lack the
    float64 arithmetic which selectivity and some corruptions need (MPS).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"only cpu and cuda are supported, not {device.type}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise SelbenchError(
            f"device {name!r} cannot be used ({in_short(problem)}); try --device cpu"
        ) from problem
    return device


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Compute in float32 on the CPU by default, whatever else the caller has set in torch."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:  # torch is slower with a default device, were it the CPU
        with nullcontext() if device.type == "cpu" else torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def has_bfloat16(device: torch.device) -> bool:
    """Say whether `device` computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # A private name is all that torch 2.11 has; should a later one drop it, float32 serves.
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
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
    """Return the versions that numbers may depend on, for manifests."""
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"python": platform.python_version(), "selbench": __version__, **packages}


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Have CUDA take its deterministic kernels, where it has them; the CPU's are."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
