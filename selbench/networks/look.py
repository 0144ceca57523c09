"""What the probe checks: a network and some images of the data set."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from selbench._kit.types import Images, Labels, Logits, to_images
from selbench.datasets import Dataset, limited
from selbench.networks.network import Network

FEW, MANY = 64, 250  # images for the checks of outputs, and for the checks of accuracy
SMALL = 64  # pixels of a side up to which MANY images are used
REPEATS, QUICK = 3, 8  # repetitions with all few images, and with four of them
TOLERANCE = 1e-4  # difference of logits, relative to their spread


@dataclass(frozen=True)
class Look:
    """A network and the images that the probe checks it with; outputs are computed once."""

    subject: Network
    dataset: Dataset
    dtype: torch.dtype = torch.float32

    @cached_property
    def network(self) -> nn.Module:
        """The network under test, on the CPU."""
        network = self.subject.load().cpu().eval()  # it may lie on a GPU
        return network if self.dtype == torch.float32 else copy.deepcopy(network).to(self.dtype)

    @cached_property
    def precise(self) -> "Look":
        """The same look in float64, to rule out rounding; some networks do not support it."""
        return replace(self, dtype=torch.float64)

    @cached_property
    def few(self) -> Images:
        """A few images, in the class proportions of the data set."""
        return self._images(FEW)[0].to(self.dtype)

    @cached_property
    def many(self) -> tuple[Images, Labels]:
        """More images with their labels; fewer if they are large."""
        small = max(self.dataset.test.images.shape[-2:]) <= SMALL
        return self._images(MANY if small else FEW)

    def _images(self, count: int) -> tuple[Images, Labels]:
        chosen = limited(self.dataset.test, count)
        return to_images(chosen.images.cpu()), chosen.labels.cpu()

    @torch.no_grad()
    def logits(self, images: Images) -> Logits:
        """Return the logits of images in one batch."""
        found: Logits = self.network(images.clone()).to(self.dtype)
        if len(found) != len(images):
            raise ValueError(f"it makes {tuple(found.shape)} of {len(images)} images")
        return found

    @cached_property
    def first(self) -> Logits:
        """The logits of the few images, in the first call."""
        return self.logits(self.few)

    @cached_property
    def unit(self) -> float:
        """The spread of the logits of an image, the unit of differences."""
        centred = self.first - self.first.mean(1, keepdim=True)
        return max(centred.abs().max().item(), 1e-30)

    def apart(self, one: Logits, other: Logits) -> float:
        """Return the largest difference of logits, in `unit`."""
        return float((one - other).abs().max().nan_to_num(torch.inf)) / self.unit

    @cached_property
    def answers(self) -> bool:
        """Whether the logits are finite and depend on the image."""
        return bool(self.first.isfinite().all()) and not self.blind

    @cached_property
    def ignored(self) -> Tensor:
        """For each of the few images, whether its logits equal those of most images and classes."""
        logits, labels = self.first.nan_to_num(), self._images(FEW)[1]
        equal = (logits[:, None] - logits).abs().amax(2) <= TOLERANCE * self.unit
        most = equal[equal.sum(1).argmax()]
        of_classes = 2 * len(labels[most].unique()) > len(labels.unique())
        return most & (len(labels) > 1 and 2 * int(most.sum()) > len(labels) and of_classes)

    @cached_property
    def blind(self) -> bool:
        """Whether all images have the same logits."""
        return bool(self.ignored.all())

    @cached_property
    def redraw_difference(self) -> float:
        """The largest difference of logits between repeated calls with the same images."""
        four = self.few[:4]
        before = self.logits(four)
        return max(
            *(self.apart(self.first, self.logits(self.few)) for _ in range(REPEATS)),
            *(self.apart(before, self.logits(four)) for _ in range(QUICK)),
        )

    @cached_property
    def slopes(self) -> Tensor:
        """The gradient of each image's margin; errors of the network are raised."""
        points = self.few.clone().requires_grad_()
        with torch.enable_grad():
            best, second = self.network(points).float().topk(2, 1).values.unbind(1)
            (gradient,) = torch.autograd.grad((best - second).sum(), points)
        return gradient
