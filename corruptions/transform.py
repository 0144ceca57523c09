"""Corruptions as a transform of torchvision's second version, for training and DataLoaders."""

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
from torch.utils._pytree import tree_flatten, tree_unflatten  # as torchvision's transforms
from torch.utils.data import get_worker_info

from corruptions.arguments import check_name, find_seed, find_severity
from corruptions.benchmark import CORRUPTIONS, corrupt


class Corrupt(torch.nn.Module):
    """Corrupt images, each call with other random numbers.

    >>> import torch
    >>> transform = Corrupt(["fog", "ripple"], [1, 2, 3], seed=0)
    >>> transform(torch.zeros(3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([3, 32, 32])

    It takes what torchvision's transforms take: images alone or with labels, in tuples, lists and
    dicts, and returns the same with the images corrupted. Images are PIL images (which become
    RGB), arrays (height, width, 3), tensors (..., 3, height, width) and torchvision's `Image`;
    where there is none of the others, the first tensor is one. For dtypes and values see `corrupt`.

    Without a seed the numbers come from torch's generator, which `torch.manual_seed` and the
    DataLoader's `generator` set, and which the loader sets differently for each worker and epoch.
    With a seed they are a function of seed, epoch, worker, and of the calls before in that worker.
    """

    def __init__(
        self,
        name: str | Iterable[str],
        severity: int | Iterable[int],
        *,
        seed: int | None = None,
        scale: int | None = None,
    ) -> None:
        """Choose what to draw from.

        Args:
            name: of a corruption, or several, of which each call takes one.
            severity: 1 to 5, or several, of which each call takes one.
            seed: a whole number from 0.
            scale: whose constants are used, as in `corrupt`.

        Raises:
            ValueError: for an unknown name or severity, or none, and a seed that is no whole number
                from 0; later, for images as `corrupt`.
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
        """Take other numbers than in other epochs; call it before iterating, where there is a seed.

        Loaders start workers afresh in each epoch, and these count calls from 0, unless they are
        persistent.
        """
        self.epoch = find_seed(epoch)

    def forward(self, *inputs: Any) -> Any:
        """Return the inputs with images corrupted, all by the same corruption and severity."""
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
        """Return a number of this call alone."""
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
        """Say what it draws from."""
        names = ", ".join(self.names)
        severities = ", ".join(map(str, self.severities))
        return f"{names}; severity {severities}; seed {self.seed}, scale {self.scale}"


def _is_image(leaf: Any) -> bool:
    kinds = _tv_tensors()
    return isinstance(leaf, (Image.Image, np.ndarray)) or (
        kinds is not None and isinstance(leaf, (kinds.Image, kinds.Video))
    )


def _tv_tensors() -> Any:
    """Return torchvision's module of image classes where it has been imported."""
    return sys.modules.get("torchvision.tv_tensors")
