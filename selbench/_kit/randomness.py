"""Random generators, each derived from the name of its purpose.

Other code draws from torch's global generators, which threads share; `dice` reserves them.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from torch import Tensor

_DICE = RLock()


def seeded(name: str, seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator that depends only on `name`, `seed` and the kind of device."""
    digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
    generator = torch.Generator(device)
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator


def rolls(function: Callable[[], object]) -> bool:
    """Return whether a function draws from torch's global generators, as dropout does."""
    with dice(0):
        before = _states()
        function()
        return any(not torch.equal(*both) for both in zip(before, _states(), strict=True))


def _states() -> list[Tensor]:
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_gpus]


@contextmanager
def dice(seed: int) -> Iterator[None]:
    """Seed torch's global generators, reserve them for the block, and restore them afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _DICE, torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
