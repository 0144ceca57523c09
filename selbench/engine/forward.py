"""What one pass over the images does: a condition for several networks, an attack on one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selbench.attacks.folding import folded
from selbench.chunks import BATCH, in_chunks
from selbench.crew import Map, map_in_turn
from selbench.datasets import Split, limited
from selbench.outcomes import Columns, outcome
from selbench.progress import Step
from selbench.suites import Attack, Condition
from selbench.training import to_images
from selbench.types import Images, Labels, Pixels

GROUP = 1000  # images under attack at once: those that have fallen leave, the rest stay together


def prepare(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a network on `device` in evaluation mode, its weights frozen."""
    return model.to(device).eval().requires_grad_(False)


def run_condition(
    condition: Condition,
    networks: Sequence[nn.Module],
    split: Split,
    step: Step,
    run_all: Map[Any, Any] = map_in_turn,
) -> list[Columns]:
    """Return each network's outcomes under `condition`: columns of len(split) rows, on the CPU.

    `run_all` maps over the networks, in turn or side by side.
    """
    size = BATCH[split.labels.device.type]
    note = condition.name if condition.level is None else f"{condition.name} {condition.level}"
    parts: list[list[Columns]] = [[] for _ in networks]
    for start in range(0, len(split), size):
        labels, examples = (t[start : start + size] for t in (split.labels, split.examples))
        images = to_images(condition.perturb(split.images[start : start + size], examples))

        @torch.inference_mode()
        def forward(
            network: nn.Module, images: Images = images, labels: Labels = labels
        ) -> Columns:
            (logits,) = in_chunks(lambda part: (network(part),), images, sizes=BATCH)
            result = outcome(logits, labels)
            step(len(labels), note)
            return result

        for kept, result in zip(parts, run_all(forward, networks), strict=True):
            kept.append({"example": examples, "label": labels, **result})
    return [_joined(kept) for kept in parts]


def run_attack(
    attack: Attack, networks: Sequence[nn.Module], split: Split, save: int = 0
) -> tuple[list[Columns], dict[str, Tensor]]:
    """Attack the first of `networks`, with the help of the others if there are any.

    Returns:
        its outcomes at each level, columns of len(split) rows; and of the first `save` images:
        clean, label, example, and for every level with images of its own the adversarial and
        the prediction, by name.
    """
    parts: list[list[Columns]] = [[] for _ in attack.levels]
    saved: dict[str, Tensor] = {}
    first = to_images(split.images[:2])
    networks = [folded(network, first) for network in networks]
    for start in range(0, len(split), GROUP):
        rows = slice(start, start + GROUP)
        images, labels = to_images(split.images[rows]), split.labels[rows]
        examples = split.examples[rows]
        found = attack.run(*networks, images, labels, examples)
        for level, kept, result in zip(attack.levels, parts, found, strict=True):
            columns = outcome(result.logits, labels)
            columns |= {f"masking_{name}": holds for name, holds in result.checks.items()}
            assert ((columns["prediction"] != labels) == result.fallen).all()
            kept.append({"example": examples, "label": labels, **columns})
            if not start and (result is found[-1] or result.images is not found[-1].images):
                saved[f"adversarial {level:g}"] = result.images[:save]
                saved[f"prediction {level:g}"] = columns["prediction"][:save]
        if not start:
            saved |= {"clean": images[:save], "label": labels[:save], "example": examples[:save]}
    plain = torch.contiguous_format
    kept_images = {name: t.cpu().clone(memory_format=plain) for name, t in saved.items()}
    return [_joined(kept) for kept in parts], kept_images


def perturbed(condition: Condition, split: Split, limit: int | None) -> Pixels:
    """Return what a condition makes of all images, in their order."""
    if condition.stored is not None:
        own = limited(condition.stored.load(), limit).to(split.labels.device)
        assert torch.equal(own.labels, split.labels)
        return own.images
    size = BATCH[split.labels.device.type]
    batches = zip(split.images.split(size), split.examples.split(size), strict=True)
    return torch.cat([condition.perturb(images, examples) for images, examples in batches])


def _joined(parts: Sequence[Columns]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
