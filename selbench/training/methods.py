"""Methods of training: on the images, on AugMix mixtures, or on adversarials."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from selbench._kit.types import Images, Labels, Logits, Pixels, to_images
from selbench.attacks.gradient import climb
from selbench.attacks.norms import NORMS
from selbench.training.augmix import mixtures

EPSILON, STEPS, STEP = 8 / 255, 7, 2 / 255  # of adversarial training (arXiv:1706.06083, CIFAR-10)
CONSISTENCY = 12.0  # weight of the divergence between an image's views (arXiv:1912.02781)

Views = Float[Tensor, "shown 3 height width"]  # a batch, or its views in order


def views(
    method: str,
    model: nn.Module,
    pixels: Pixels,
    labels: Labels,
    generator: torch.Generator,
    half: bool = False,
) -> Views:
    """Return the images to train on for `pixels`: one view of each, or three views in order.

    - "standard": the images.
    - "augmix": the images, then two mixtures of each (Hendrycks et al., 2020, arXiv:1912.02781).
    - "pgd": adversarials of the current network in evaluation mode, by PGD from a random start
      (Madry et al., 2018, arXiv:1706.06083); the network is put back into training mode.
    """
    if method == "augmix":
        return to_images(torch.cat([pixels, *mixtures(pixels, generator, 2)]))
    images = to_images(pixels)
    if method == "pgd":
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            return _adversarial(model, images, labels, generator)
    return images


def inconsistency(logits: Logits, batch: int) -> Float[Tensor, ""]:
    """Return the weighted Jensen-Shannon divergence between the views; 0 for a single view."""
    if len(logits) == batch:
        return logits.new_zeros(())
    shares = logits.float().softmax(1).view(-1, batch, logits.shape[1])
    mean = shares.mean(0).clamp(1e-7, 1).log()
    each = [F.kl_div(mean, share, reduction="batchmean") for share in shares]
    return CONSISTENCY * torch.stack(each).mean()


def _adversarial(
    model: nn.Module, images: Images, labels: Labels, generator: torch.Generator
) -> Images:
    noise = torch.rand(images.shape, generator=generator).to(images.device, non_blocking=True)
    start = (images + (2 * noise - 1) * EPSILON).clamp_(0, 1)
    model.eval()
    *_, found = climb(
        model, images, labels, EPSILON, NORMS["linf"], STEP, STEPS, start, early=False
    )
    model.train()
    return found.images
