"""The corruptions of CIFAR-10-C-bar and ImageNet-C-bar, chosen to look unlike the benchmark's.

Mintun, Kirillov & Xie, 2021, arXiv:2102.11273. Ten are published for 32 pixels, ten for 224, and
five of these are in both. Lengths are relative to an image's shorter side, as published.

They compute in float64, with the roundings that the published sets have, and return it.
"""

from corruptions.bar import blurring, noise, obscuring, warping

__all__ = ["blurring", "noise", "obscuring", "warping"]
