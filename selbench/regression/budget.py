"""Choose what to compare in a given time, with the same choice on every machine.

No clock is used, since the choice would then differ between machines and between days. Instead the
cost (multiplications of the networks, pixels to corrupt) is counted and divided by the nominal
speed of one core of a continuous-integration machine.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from selbench._kit.errors import SelbenchError
from selbench.suites import Work

SPEED = 2e10  # floating-point operations of a network's forward pass, per second
PIXEL = 2e-7  # seconds to corrupt one pixel, mean over the 19 corruptions
LEAST, ENOUGH = 50, 500  # examples: the fewest, and how many before severities are added
SEVERITIES: tuple[tuple[int, ...], ...] = ((1, 2, 3, 4, 5), (1, 3, 5), (3, 5), (3,))


def seconds_of(text: object) -> float:
    """Read "60s", "2m", "1h" or "60"; raise `SelbenchError` for anything else."""
    form = r"(\d{1,6}(?:\.\d{1,6})?)(s|m|h)?"
    found = re.fullmatch(form, text) if isinstance(text, str) else None
    seconds = float(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1) if found else 0.0
    if not seconds:
        raise SelbenchError(f"--budget takes a time such as 60s or 5m, got {text!r}")
    return seconds


def forward_seconds(network: nn.Module, height: int, width: int) -> float:
    """Return the nominal time of a forward pass of one image."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(torch.zeros(1, 3, height, width, device=device))
    return float(counter.get_total_flops()) / SPEED


def choose(
    pieces: Sequence[Work],
    examples: int,
    seconds: float,
    forward: float,
    pixels: int,
) -> tuple[list[Work], int]:
    """Return the conditions to compare and the number of examples.

    Clean images and all corruptions are kept. Severities are added while `ENOUGH` examples fit: 3,
    then 3 and 5, then 1, 3 and 5, then all. Attacks are left out: one costs as much as hundreds of
    conditions.

    Args:
        pieces: the work in the baseline.
        examples: the number of examples in the baseline, the most to compare.
        seconds: the nominal time.
        forward: the nominal time of one image in all networks, in seconds.
        pixels: the number of pixels of an image.

    Raises:
        SelbenchError: if there are only attacks, or the time is too short.
    """
    conditions = [piece for piece in pieces if not piece.is_attack]
    if not conditions:
        raise SelbenchError("--budget chooses among corruptions, there are attacks only")
    for severities in SEVERITIES:
        kept = [each for each in conditions if each.level in (None, *severities)]
        cost = sum(forward + (PIXEL * pixels if each.level else 0) for each in kept)
        affordable = min(int(round(seconds / cost, 6)), examples) if cost else examples
        if affordable >= min(ENOUGH, examples):
            return kept, affordable
    if affordable < min(LEAST, examples):
        least = min(LEAST, examples) * cost
        raise SelbenchError(
            f"--budget {seconds:g}s is too short for {min(LEAST, examples)} examples under "
            f"{len(kept)} conditions; give at least {_rounded_up(least)}s"
        )
    return kept, affordable


def _rounded_up(seconds: float) -> str:
    """Round a time up to two significant digits, in the format of `seconds_of`."""
    step = 10.0 ** max(math.floor(math.log10(seconds)) - 1, -6)
    return f"{math.ceil(round(seconds / step, 6)) * step:.6f}".rstrip("0").rstrip(".")
