"""Torchvision's networks, changed for small images as in Leavitt & Morcos, arXiv:2003.01262.

Torchvision is imported only when needed: this takes as long as importing torch.
"""

from torch import nn

from selbench.models.build import MODELS


@MODELS
def resnet18(classes: int) -> nn.Module:
    """Torchvision's ResNet18 without its max-pool, for 64-pixel images; 17 ReLUs."""
    from torchvision.models import resnet18 as build

    return _without_max_pool(build(num_classes=classes))


@MODELS
def resnet50(classes: int) -> nn.Module:
    """Torchvision's ResNet50 without its max-pool, for 64-pixel images; 49 ReLUs."""
    from torchvision.models import resnet50 as build

    return _without_max_pool(build(num_classes=classes))


@MODELS
def vgg16(classes: int) -> nn.Module:
    """VGG16 with batch norm and one hidden linear layer of 512 units; 14 ReLUs.

    The convolutions are torchvision's; one layer of 512 units replaces the two of 4096.
    """
    from torchvision.models import vgg16_bn

    features = vgg16_bn(num_classes=1).features
    classifier = [nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, classes)]
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *classifier)


def _without_max_pool(network: nn.Module) -> nn.Module:
    network.maxpool = nn.Identity()
    return network
