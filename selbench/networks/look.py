"""A network, and images of the data set that the probe looks at it with."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from selbench._kit.types import Images, Labels, Logits, to_images
from selbench.datasets import Dataset, limited
from selbench.networks.network import Network

FEW, MANY = 64, 250  # images for the checks of outputs, and for those of accuracy
SMALL = 64  # pixels of a side up to which MANY images are taken
REPEATS, QUICK = 3, 8  # of the same images, and of four of them
TOLERANCE = 1e-4  # of logits, relative to how far they are apart


@dataclass(frozen=True)
class Look:
    """A network, and images of the data set that it is looked at with."""

    subject: Network
    dataset: Dataset
    dtype: torch.dtype = torch.float32

    @cached_property
    def network(self) -> nn.Module:
        """The network under test, on the CPU."""
        network = self.subject.load().eval()
        return network if self.dtype == torch.float32 else copy.deepcopy(network).to(self.dtype)

    @cached_property
    def precise(self) -> "Look":
        """The same in float64, which tells rounding from habits; not every network can do it."""
        return replace(self, dtype=torch.float64)

    @cached_property
    def few(self) -> Images:
        """Some images, in the classes' proportions."""
        return self._images(FEW)[0].to(self.dtype)

    @cached_property
    def many(self) -> tuple[Images, Labels]:
        """More images with their labels, unless they are large."""
        small = max(self.dataset.test.images.shape[-2:]) <= SMALL
        return self._images(MANY if small else FEW)

    def _images(self, count: int) -> tuple[Images, Labels]:
        chosen = limited(self.dataset.test, count)
        return to_images(chosen.images.cpu()), chosen.labels.cpu()

    @torch.no_grad()
    def logits(self, images: Images) -> Logits:
        """Return the logits of images that go through the network together."""
        found: Logits = self.network(images.clone()).to(self.dtype)
        if len(found) != len(images):
            raise ValueError(f"it makes {tuple(found.shape)} of {len(images)} images")
        return found

    @cached_property
    def first(self) -> Logits:
        """The logits of the few images, the first time."""
        return self.logits(self.few)

    @cached_property
    def unit(self) -> float:
        """How far logits of one image are apart, which differences are compared with."""
        centred = self.first - self.first.mean(1, keepdim=True)
        return max(centred.abs().max().item(), 1e-30)

    def apart(self, one: Logits, other: Logits) -> float:
        """Return the largest difference of logits, in `unit`."""
        return float((one - other).abs().max().nan_to_num(torch.inf)) / self.unit

    @cached_property
    def answers(self) -> bool:
        """Whether logits are finite and depend on the image."""
        return bool(self.first.isfinite().all()) and not self.blind

    @cached_property
    def ignored(self) -> Tensor:
        """Of each of the few images, whether it shares its logits with most, of most classes."""
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
        """How far logits of the same images are apart, asked again and again."""
        four = self.few[:4]
        before = self.logits(four)
        return max(
            *(self.apart(self.first, self.logits(self.few)) for _ in range(REPEATS)),
            *(self.apart(before, self.logits(four)) for _ in range(QUICK)),
        )

    @cached_property
    def slopes(self) -> Tensor:
        """The gradient of each image's margin; raises what the network raises."""
        points = self.few.clone().requires_grad_()
        with torch.enable_grad():
            best, second = self.network(points).float().topk(2, 1).values.unbind(1)
            (gradient,) = torch.autograd.grad((best - second).sum(), points)
        return gradient
