"""Common image corruptions: batched, on any device, reproducible example by example.

>>> import torch
>>> from corruptions import CORRUPTIONS, corrupt
>>> images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
>>> corrupt(images, "gaussian_noise", 3, examples=torch.arange(8)).shape
torch.Size([8, 3, 32, 32])
>>> CORRUPTIONS["gaussian_noise"].family
'noise'
"""

from importlib import import_module
from pkgutil import iter_modules

from corruptions.arguments import SMALLEST_SIDE
from corruptions.benchmark import CORRUPTIONS, bar_corruptions, corrupt
from corruptions.frost import FrostError, look_for_frost_in
from corruptions.registry import Corruption
from corruptions.transform import Corrupt

__all__ = [
    "CORRUPTIONS",
    "SMALLEST_SIDE",
    "Corrupt",
    "Corruption",
    "FrostError",
    "bar_corruptions",
    "corrupt",
    "look_for_frost_in",
]

for _module in iter_modules(__path__):  # each registers its functions: a new corruption is a file
    import_module(f"{__name__}.{_module.name}")
