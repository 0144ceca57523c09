"""The corruptions of CIFAR-10-C-bar and ImageNet-C-bar, chosen to differ from the benchmark's.

Mintun, Kirillov & Xie, 2021, arXiv:2102.11273. Ten are published for 32 pixels and ten for 224, of
which five are in both. Lengths are relative to an image's shorter side, as published.

They compute in float64, with the roundings of the published sets, and return float64.
"""

from corruptions.bar import blurring, noise, obscuring, warping

__all__ = ["blurring", "noise", "obscuring", "warping"]
