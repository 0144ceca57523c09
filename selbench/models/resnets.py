"""The CIFAR ResNets of He et al., 2016, arXiv:1512.03385, section 4.2."""

import torch.nn.functional as F
from torch import Tensor, nn

from selbench.models.build import MODELS


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    Shortcut "A" subsamples and pads new channels with zeros, half before and half after; "B" is a
    1 x 1 convolution. Both return the input if the shape does not change.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.stride = stride
        new = outputs - inputs
        self.padding = (0, 0, 0, 0, new // 2, new - new // 2)
        self.shortcut = nn.Sequential()
        if shortcut == "B" and (stride != 1 or inputs != outputs):
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to as many outputs, `stride` times smaller."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        identity = self.shortcut(x)
        if identity.shape != out.shape:
            identity = F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)
        return self.relu(out + identity)  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """Three stages of `blocks` basic blocks with `width`, 2 `width` and 4 `width` channels."""

    def __init__(self, classes: int, blocks: int, width: int, shortcut: str) -> None:
        super().__init__()
        if shortcut not in ("A", "B"):
            raise ValueError(f'shortcut is "A" (zeros) or "B" (convolution), got {shortcut!r}')
        if width < 1:
            raise ValueError(f"width is at least 1, got {width}")
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(width, width, blocks, 1, shortcut)
        self.layer2 = self._stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = self._stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride, shortcut)
        rest = [BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, 3, height, width) to logits (batch, classes)."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


@MODELS
def resnet20(classes: int, shortcut: str = "A", width: int = 16) -> nn.Module:
    """ResNet20 for CIFAR: 0.27 M parameters, 19 ReLUs (He et al., 2016, arXiv:1512.03385)."""
    return CifarResNet(classes, blocks=3, width=width, shortcut=shortcut)


@MODELS
def resnet32(classes: int, shortcut: str = "A", width: int = 16) -> nn.Module:
    """ResNet32 for CIFAR: 0.46 M parameters, 31 ReLUs (He et al., 2016, arXiv:1512.03385)."""
    return CifarResNet(classes, blocks=5, width=width, shortcut=shortcut)


@MODELS
def resnet44(classes: int, shortcut: str = "A", width: int = 16) -> nn.Module:
    """ResNet44 for CIFAR: 0.66 M parameters, 43 ReLUs (He et al., 2016, arXiv:1512.03385)."""
    return CifarResNet(classes, blocks=7, width=width, shortcut=shortcut)


@MODELS
def resnet56(classes: int, shortcut: str = "A", width: int = 16) -> nn.Module:
    """ResNet56 for CIFAR: 0.85 M parameters, 55 ReLUs (He et al., 2016, arXiv:1512.03385)."""
    return CifarResNet(classes, blocks=9, width=width, shortcut=shortcut)


@MODELS
def resnet110(classes: int, shortcut: str = "A", width: int = 16) -> nn.Module:
    """ResNet110 for CIFAR: 1.73 M parameters, 109 ReLUs (He et al., 2016, arXiv:1512.03385)."""
    return CifarResNet(classes, blocks=18, width=width, shortcut=shortcut)


@MODELS
def resnet8(classes: int, shortcut: str = "A", width: int = 8) -> nn.Module:
    """ResNet8: the shallowest ResNet for CIFAR at half the width, for digits; 7 ReLUs."""
    return CifarResNet(classes, blocks=1, width=width, shortcut=shortcut)
