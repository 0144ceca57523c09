"""Flip and crop a batch at once, on its device."""

from functools import partial

import torch

from selbench._kit.types import Pixels


def augment(images: Pixels, how: tuple[str, ...], generator: torch.Generator) -> Pixels:
    """Flip each image left to right with probability 1/2, and crop it after zero padding.

    The padding is an eighth of the side, like the usual 4 of 32 pixels for CIFAR.

    Args:
        images: uint8, any memory format.
        how: any of "flip" and "crop".
        generator: on the CPU, so that every device gets the same numbers.

    Returns:
        images of the same shape, channels_last.
    """
    batch, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(batch, -1)
    columns = torch.arange(width, device=device).expand(batch, -1)
    pixels = images.permute(0, 2, 3, 1)
    there = partial(torch.Tensor.to, device=device, non_blocking=True)
    if "flip" in how:
        flipped = there(torch.rand(batch, 1, generator=generator) < 0.5)
        columns = torch.where(flipped, columns.flip(1), columns)
    if "crop" in how:
        pad = height // 8
        offsets = there(torch.randint(2 * pad + 1, (2, batch, 1), generator=generator))
        rows, columns = rows + offsets[0], columns + offsets[1]
        pixels = torch.nn.functional.pad(pixels, (0, 0, pad, pad, pad, pad))
    # One gather of pixels does both.
    first = torch.arange(batch, device=device)[:, None, None] * pixels.shape[1]
    places = (first + rows[:, :, None]) * pixels.shape[2] + columns[:, None, :]
    gathered = pixels.reshape(-1, channels).index_select(0, places.flatten())
    return gathered.view(batch, height, width, channels).permute(0, 3, 1, 2)
