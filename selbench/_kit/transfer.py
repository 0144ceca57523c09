"""Brings numbers from a GPU, which a program waits for once instead of once for each tensor."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def fetched(tables: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return tables of tensors on the CPU, after one transfer from a GPU.

    Tensors on the CPU are not copied.
    """
    every = [each for table in tables for each in table.values()]
    away = [each for each in every if each.device.type != "cpu"]
    flat = [each.detach().contiguous().flatten().view(torch.uint8) for each in away]
    parts = torch.cat(flat).cpu().split([len(each) for each in flat]) if flat else ()
    # Cloned, as numbers of several bytes must begin where their size allows it.
    brought = iter(
        [p.clone().view(each.dtype).view(each.shape) for each, p in zip(away, parts, strict=True)]
    )
    here = iter([each if each.device.type == "cpu" else next(brought) for each in every])
    return [{name: next(here) for name in table} for table in tables]
