"""Corruptions as a torchvision v2 transform, for training and DataLoaders."""

import hashlib
import os
import random
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten  # as in torchvision's transforms
from torch.utils.data import get_worker_info

from corruptions.arguments import check_name, find_seed, find_severity
from corruptions.benchmark import CORRUPTIONS, corrupt


class Corrupt(torch.nn.Module):
    """Corrupt images, with new random numbers for each call.

    >>> import torch
    >>> transform = Corrupt(["fog", "ripple"], [1, 2, 3], seed=0)
    >>> transform(torch.zeros(3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([3, 32, 32])

    It accepts what torchvision's transforms accept: images alone or with labels, in tuples, lists
    and dicts, and returns the same structure with corrupted images. Images are PIL images
    (converted to RGB), arrays (height, width, 3), tensors (..., 3, height, width) and torchvision's
    `Image`. The first tensor counts as an image only if there is none of the other kinds. For
    dtypes and values see `corrupt`.

    Without a seed, random numbers come from torch's generator. `torch.manual_seed` and the
    DataLoader's `generator` seed it, and the loader seeds it differently for each worker and epoch.
    With a seed, they depend on seed, epoch, worker, and the number of earlier calls in this worker.
    """

    def __init__(
        self,
        name: str | Iterable[str],
        severity: int | Iterable[int],
        *,
        seed: int | None = None,
        scale: int | None = None,
    ) -> None:
        """Set the corruptions and severities to draw from.

        Args:
            name: a corruption's name, or several, one of which is drawn in each call.
            severity: 1 to 5, or several, one of which is drawn in each call.
            seed: an integer from 0.
            scale: image size whose constants are used; see `corrupt`.

        Raises:
            ValueError: for an unknown name or severity, or none, or an invalid seed; later, for
                invalid images (see `corrupt`).
        """
        super().__init__()
        self.names = (name,) if isinstance(name, str) else tuple(name)
        severities = tuple(severity) if isinstance(severity, Iterable) else (severity,)
        if not (self.names and severities):
            raise ValueError("Corrupt needs at least one name and one severity")
        for each in self.names:
            check_name(each, CORRUPTIONS)
        self.severities = [find_severity(self.names[0], each) for each in severities]
        self.seed = None if seed is None else find_seed(seed)
        self.scale, self.epoch = scale, 0
        self._calls, self._process = 0, os.getpid()

    def set_epoch(self, epoch: int) -> None:
        """Use different numbers in each epoch; call it before iterating if there is a seed.

        Loaders start new workers in each epoch unless these are persistent, and workers count calls
        from 0.
        """
        self.epoch = find_seed(epoch)

    def forward(self, *inputs: Any) -> Any:
        """Return the inputs with all images corrupted by the same corruption and severity."""
        leaves, structure = tree_flatten(inputs if len(inputs) > 1 else inputs[0])
        number = self._number()
        choice = random.Random(number)
        name, severity = choice.choice(self.names), choice.choice(self.severities)
        images = [place for place, leaf in enumerate(leaves) if _is_image(leaf)]
        tensors = (place for place, leaf in enumerate(leaves) if type(leaf) is Tensor)
        images = images or list(tensors)[:1]
        if not images:
            kinds = ", ".join(type(leaf).__name__ for leaf in leaves)
            raise ValueError(
                f"Corrupt takes PIL images, arrays (height, width, 3) and tensors, got {kinds}"
            )
        for place in images:
            leaves[place] = self._corrupted(leaves[place], name, severity, number)
        return tree_unflatten(leaves, structure)

    def _corrupted(self, image: Any, name: str, severity: int, number: int) -> Any:
        if isinstance(image, Image.Image):
            pixels = self._corrupted(np.array(image.convert("RGB")), name, severity, number)
            return Image.fromarray(pixels)
        if isinstance(image, np.ndarray):
            if image.shape[2:] != (3,):
                raise ValueError(f"arrays have shape (height, width, 3), got {image.shape}")
            batch = torch.from_numpy(image.copy()).permute(2, 0, 1)
            array = self._corrupted(batch, name, severity, number).permute(1, 2, 0).numpy()
            return np.ascontiguousarray(array)
        batch = image.as_subclass(Tensor)
        batch = batch.flatten(0, -4) if batch.ndim > 3 else batch.unsqueeze(0)
        examples = torch.arange(len(batch), device=batch.device)
        made = corrupt(
            batch, name, severity, examples=examples, seed=number, scale=self.scale
        ).view(image.shape)
        return made if type(image) is Tensor else _tv_tensors().wrap(made, like=image)

    def _number(self) -> int:
        """Return a number for this call only."""
        if self.seed is None:
            return int(torch.randint(2**62, ()))
        if self._process != os.getpid():
            self._calls, self._process = 0, os.getpid()
        self._calls += 1
        worker = get_worker_info()
        stream = f"{self.seed}/{self.epoch}/{'main' if worker is None else worker.id}"
        digest = hashlib.blake2b(f"{stream}/{self._calls}".encode(), digest_size=7).digest()
        return int.from_bytes(digest, "little")

    def extra_repr(self) -> str:
        """Describe the settings."""
        names = ", ".join(self.names)
        severities = ", ".join(map(str, self.severities))
        return f"{names}; severity {severities}; seed {self.seed}, scale {self.scale}"


def _is_image(leaf: Any) -> bool:
    kinds = _tv_tensors()
    return isinstance(leaf, (Image.Image, np.ndarray)) or (
        kinds is not None and isinstance(leaf, (kinds.Image, kinds.Video))
    )


def _tv_tensors() -> Any:
    """Return torchvision's module of image classes if it has been imported."""
    return sys.modules.get("torchvision.tv_tensors")
