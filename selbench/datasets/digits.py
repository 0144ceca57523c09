"""The handwritten digits of scikit-learn: real images without a download."""

from pathlib import Path

import torch
import torch.nn.functional as F

from selbench._kit.errors import SelbenchError
from selbench._kit.files import home
from selbench._kit.progress import Progress
from selbench._kit.randomness import seeded
from selbench.datasets.cache import Decoded, cached
from selbench.datasets.dataset import DATASETS, Dataset, stratified_order

TEST = 597  # a third of 1,797; a round 1,200 remain for training and validation


@DATASETS
def digits(root: Path | None, progress: Progress) -> Dataset:
    """1,797 handwritten digits (UCI, Alpaydin & Kaynak, 1998): 8 x 8 pixels, up-sampled to 32.

    The 597 test images are fixed, and have the class proportions of the data set.
    """
    if root is not None:
        raise SelbenchError("digits come with scikit-learn; leave out dataset.root and --data")
    return cached("digits", home() / "datasets" / "digits.safetensors", "1", _decode)


def _decode() -> Decoded:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    small = torch.from_numpy(bunch.images).float()[:, None] / 16
    large = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    pixels = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    order = stratified_order(labels, seeded("digits/test", 0))
    test, train = order[:TEST].sort().values, order[TEST:].sort().values
    names = tuple(str(name) for name in bunch.target_names)
    return Decoded(names, pixels[train], labels[train], pixels[test], labels[test])
