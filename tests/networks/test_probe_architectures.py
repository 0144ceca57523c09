"""The probe finds nothing but chance accuracy in sixty architectures of torchvision and timm."""

import pytest
import torch
from planted import digits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from selbench.networks.inputs import Inputs, Preprocess
from selbench.networks.look import Look
from selbench.networks.network import Network
from selbench.networks.probe import habits_of
from selbench.networks.zoo import careful_loading

SIDES = (32, 64, 96, 224)
TORCHVISION = """
    resnet18 resnet50 resnext50_32x4d vgg11 vgg11_bn alexnet squeezenet1_0 squeezenet1_1
    densenet121 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 shufflenet_v2_x0_5
    shufflenet_v2_x1_0 efficientnet_b0 regnet_y_400mf regnet_x_400mf convnext_tiny swin_t
"""
TIMM = """
    resnet26 resnet18d seresnet18 legacy_seresnet18 skresnet18 dla34 dla46_c hrnet_w18_small
    mobilenetv2_050 mobilenetv3_small_050 tf_mobilenetv3_small_075 lcnet_050 ghostnet_050 fbnetc_100
    spnasnet_100 tinynet_e efficientnet_lite0 mixnet_s rexnet_100 regnetx_002 regnety_002 repvgg_a0
    mobileone_s0 convnext_atto convnextv2_atto mixer_s32_224 resmlp_12_224 gmlp_s16_224
    vit_tiny_patch16_224 deit_tiny_patch16_224 levit_128s poolformer_s12 edgenext_xx_small
    mobilevit_xxs fastvit_t8 repghostnet_050 nf_resnet26 cspdarknet53 ese_vovnet19b_dw selecsls42
"""
NAMES = [
    *(("torchvision", name) for name in str.split(TORCHVISION)),
    *(("timm", name) for name in str.split(TIMM)),
]
OF_LOGITS = 1000


def made(library, name, side):
    if library == "torchvision":
        from torchvision.models import get_model

        return get_model(name, weights=None)
    from timm import create_model

    try:
        return create_model(name, img_size=side)
    except TypeError:  # it takes any
        return create_model(name)


def built(library, name, side):
    """Build a network with a head of ten outputs; drawn with standard deviation 0.02."""
    torch.manual_seed(0)
    with careful_loading():
        network = made(library, name, side)
    for module in list(network.modules()):
        for own, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child.out_features == OF_LOGITS:
                setattr(module, own, _drawn(nn.Linear(child.in_features, 10)))
            elif isinstance(child, nn.Conv2d) and child.out_channels == OF_LOGITS:
                setattr(module, own, _drawn(nn.Conv2d(child.in_channels, 10, 1)))
    return network


def _drawn(head):
    nn.init.normal_(head.weight, std=0.02)
    return head


@torch.no_grad()
def calibrated(network, images):
    """Give batch norms the statistics of some images."""
    network.eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    network(images)
    return network.eval().requires_grad_(False)


def subject(library, name):
    """Return a network with the smallest side of images that it takes."""
    for side in SIDES:
        inputs = Inputs(resize=side, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        try:
            whole = nn.Sequential(Preprocess(inputs), built(library, name, side))
            own = Network(name, None, None, "", name, name, lambda whole=whole: whole)
            calibrated(whole, Look(own, digits()).few)
        except (RuntimeError, ValueError, AssertionError):  # images are too small
            if side == SIDES[-1]:
                raise
        else:
            return own
    raise AssertionError(name)


def check(library, name):
    own = subject(library, name)
    found = {each.code for each in habits_of(own, digits())}
    if "ignores_images" in found:
        assert 2 * Look(own, digits()).ignored.sum() > len(Look(own, digits()).few)
    assert found <= {"chance", "ignores_images"}


def test_there_are_sixty():
    assert len(NAMES) == 60


@pytest.mark.soak
def test_nothing_but_chance_is_found_of_an_architecture():
    check("torchvision", "shufflenet_v2_x0_5")


@pytest.mark.soak
@pytest.mark.parametrize(("library", "name"), NAMES, ids=[name for _, name in NAMES])
def test_nothing_but_chance_is_found(library, name):
    check(library, name)
