"""Networks of torchvision and timm: each activation has the units that its module's width says."""

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)
from torchvision.models.vision_transformer import VisionTransformer

from selbench._kit.errors import NoReLUError
from selbench.analyses.layers import activations, find_layers, missed_activations

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SWIN = {
    "patch_size": [2, 2],
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": [4, 4],
    "num_classes": 4,
}


def convnext():
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)]
    return ConvNeXt(blocks, num_classes=4)


def swin():
    return SwinTransformer(**SWIN)


def swin_v2():
    return SwinTransformer(**SWIN, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def vit():
    return VisionTransformer(32, 8, 2, 2, 8, 24, num_classes=4)


def of_timm(name, **options):
    def build():
        timm = pytest.importorskip("timm")
        return timm.create_model(name, num_classes=4, **options)

    return build


def mixer():
    models = pytest.importorskip("timm.models.mlp_mixer")
    return models.MlpMixer(4, num_blocks=2, **FLAT)


FLAT = {"img_size": 32, "patch_size": 8, "embed_dim": 8}
# By network: how to build it, the modules of activations, the one before each, and the widths.
TABLE = {
    "convnext": (convnext, r"block\.4$", (".4", ".3"), [32, 48, 48]),
    "swin": (swin, r"\d\.mlp\.1$", (".1", ".0"), [32, 64]),
    "swin_v2": (swin_v2, r"\d\.mlp\.1$", (".1", ".0"), [32, 64]),
    "vit": (vit, r"mlp\.1$", (".1", ".0"), [24, 24]),
    "timm convnext": (
        of_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 12, 16)),
        r"act$",
        ("act", "fc1"),
        [32, 32, 48, 64],
    ),
    "timm swin": (
        of_timm(
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            embed_dim=8,
            depths=(1, 1),
            num_heads=(2, 2),
        ),
        r"act$",
        ("act", "fc1"),
        [32, 64],
    ),
    "timm vit": (
        of_timm("vit_tiny_patch16_224", depth=2, num_heads=2, **FLAT),
        r"act$",
        ("act", "fc1"),
        [32, 32],
    ),
    # 16 patches: half of the embedding's width mixes tokens, four times of it channels
    "timm mixer": (
        mixer,
        r"act$",
        ("act", "fc1"),
        [4, 32, 4, 32],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_activations_have_the_units_of_the_modules_before_them(name):
    build, pattern, (act, before), widths = TABLE[name]
    torch.manual_seed(0)
    model = build().eval()
    layers = find_layers(model, IMAGES, pattern)
    assert [layer.units for layer in layers] == widths
    for layer in layers:
        made = model.get_submodule(layer.name[: -len(act)] + before)
        own = made.out_channels if isinstance(made, nn.Conv2d) else made.out_features
        assert layer.units == own
    assert missed_activations(model, IMAGES) == {"gelu": len(widths)}
    ((units,),) = activations(model, (IMAGES,), pattern, "units", layers)
    assert [each.shape for each in units] == [(2, width) for width in widths]


@pytest.mark.soak
def test_swin_v2_has_relus_of_positions_alone_and_no_layer_is_made_of_them():
    model = swin_v2().eval()
    assert any(isinstance(module, nn.ReLU) for module in model.modules())
    with pytest.raises(NoReLUError, match="the network calls no ReLU"):
        find_layers(model, IMAGES)
