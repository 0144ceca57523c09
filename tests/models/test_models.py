"""Networks: what holds for each of the registry, and what of a checkpoint is accepted."""

import pickle
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from quick_models import each_model
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.models import MODELS, build_model, load_weights
from selbench.models.resnets import BasicBlock
from selbench.selectivity import RecordedUnits
from selbench.study import ModelSpec

RELUS = {
    "resnet8": 7,
    "resnet20": 19,
    "resnet32": 31,
    "resnet44": 43,
    "resnet56": 55,
    "resnet110": 109,
    "resnet18": 17,
    "resnet50": 49,
    "vgg16": 14,
}
PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,  # as Idelbayev counts them, github.com/akamaster/pytorch_resnet_cifar10
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet8": 19_218,
    "resnet18": 11_689_512 - 990 * 513,  # torchvision's, with 10 classes instead of 1,000
    "resnet50": 25_557_032 - 990 * 2049,
    "vgg16": 14_723_136 + 512 * 513 + 10 * 513,  # torchvision's features, and our classifier
}
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@cache
def model(name):
    """Build a network in evaluation mode, for tests that only look at it."""
    torch.manual_seed(0)
    return build_model(ModelSpec(name=name), 10, PLAIN).eval()


@pytest.fixture
def any_weights(monkeypatch):
    """Leave the weights of networks that are built as they lie in memory: drawing takes seconds."""
    for name in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


def small(width=4, **options):
    """Build a network to change and to save."""
    spec = ModelSpec(name="resnet8", options={"width": width, **options})
    return build_model(spec, 3, PLAIN).eval()


def images(batch=2, side=32):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


# Laws.


@each_model
def test_images_in_logits_out(name):
    with torch.inference_mode():
        logits = model(name)(images())
    assert logits.shape == (2, 10)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@each_model
def test_normalisation_is_inside(name, request):
    own = model(name).network.state_dict()
    request.getfixturevalue("any_weights")
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    normalized = build_model(ModelSpec(name=name), 10, (mean, std)).eval()
    normalized.network.load_state_dict(own)
    by_hand = (images() - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.inference_mode():
        assert torch.allclose(normalized(images()), model(name)(by_hand), atol=1e-4)
        assert not torch.allclose(normalized(images()), model(name)(images()), atol=1e-4)


def test_spec_s_own_normalisation_comes_first():
    spec = ModelSpec(name="resnet8", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    normalize = build_model(spec, 3, PLAIN).normalize
    assert normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert normalize.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


@each_model
def test_every_relu_call_is_recorded_as_documented(name):
    with RecordedUnits() as recorded, torch.inference_mode():
        model(name)(images())
    documented = re.search(r"(\d+) ReLUs", MODELS[name].__doc__)[1]
    assert documented == str(len(recorded.layers)) == str(RELUS.get(name, documented))
    assert all((layer >= 0).all() for layer in recorded.layers)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    assert sum(parameter.numel() for parameter in model(name).parameters()) == PARAMETERS[name]


@each_model
def test_number_of_logits_is_that_of_classes(name, request):
    heads = [m for m in model(name).modules() if isinstance(m, nn.Linear)]
    assert heads[-1].out_features == 10
    request.getfixturevalue("any_weights")
    assert build_model(ModelSpec(name=name), 7, PLAIN)(images()).shape == (2, 7)


@each_model
def test_convolutions_are_channels_last(name):
    weights = [m.weight for m in model(name).modules() if isinstance(m, nn.Conv2d)]
    assert weights
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@each_model
def test_every_parameter_is_trained(name):
    network = deepcopy(model(name)).train()
    network(images()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@each_model
def test_an_image_s_logits_do_not_depend_on_its_batch(name):
    with torch.inference_mode():
        together, alone = model(name)(images()), model(name)(images()[1:])
    assert torch.allclose(together[1:], alone, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_max_pool_is_removed(name):
    assert not [m for m in model(name).modules() if isinstance(m, nn.MaxPool2d)]


@pytest.mark.parametrize("side", [32, 64])
def test_vgg16_takes_both_sizes(side):
    with torch.inference_mode():
        assert model("vgg16")(images(side=side)).shape == (2, 10)


# The CIFAR ResNets.


def test_shortcut_a_subsamples_and_pads_with_zeros():
    block = BasicBlock(4, 8, 2, "A").eval()
    nn.init.zeros_(block.conv2.weight)  # what is left is the shortcut
    x = torch.randn(2, 4, 6, 6)
    expected = torch.zeros(2, 8, 3, 3)
    expected[:, 2:6] = x[:, :, ::2, ::2].relu()
    assert torch.equal(block(x), expected)


def test_shortcut_b_is_a_convolution_where_the_shape_changes():
    block = BasicBlock(4, 8, 2, "B").eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    conv, norm = block.shortcut
    assert torch.equal(block(x), norm(F.conv2d(x, conv.weight, stride=2)).relu())
    assert len(BasicBlock(8, 8, 1, "B").shortcut) == 0


def test_shortcut_b_has_the_projections_parameters():
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    spec = ModelSpec(name="resnet20", options={"shortcut": "B"})
    count = sum(parameter.numel() for parameter in build_model(spec, 10, PLAIN).parameters())
    assert count == PARAMETERS["resnet20"] + projections


def test_width_is_the_first_stage_s_number_of_units():
    with RecordedUnits() as recorded:
        small(width=6)(images())
    assert [layer.shape[1] for layer in recorded.layers] == [6, 6, 6, 12, 12, 24, 24]


# Options.


def test_unknown_model_names_the_nearest():
    with pytest.raises(SelbenchError, match="unknown model 'resnet-20'; did you mean 'resnet20'"):
        build_model(ModelSpec(name="resnet-20"), 10, PLAIN)


@pytest.mark.parametrize(
    ("name", "option", "hint"),
    [
        ("resnet20", "shortcuts", "did you mean 'shortcut'"),
        ("resnet8", "layers", "known are shortcut, width"),
        ("resnet18", "width", "known are none"),
        ("resnet20", "classes", "known are shortcut, width"),
    ],
)
def test_unknown_option_names_the_nearest(name, option, hint):
    message = f"unknown option of model {name} '{option}'; {hint}"
    with pytest.raises(SelbenchError, match=message):
        build_model(ModelSpec(name=name, options={option: 1}), 10, PLAIN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortcut": "C"}, r'model resnet8: shortcut is "A" .* or "B" .*, got \'C\''),
        ({"shortcut": 1}, r"model resnet8: option shortcut takes str, got 1"),
        ({"width": "wide"}, r"model resnet8: option width takes int, got 'wide'"),
        ({"width": 4.5}, r"model resnet8: option width takes int, got 4.5"),
        ({"width": True}, r"model resnet8: option width takes int, got True"),
        ({"width": 0}, r"model resnet8: width is at least 1, got 0"),
        ({"width": -4}, r"model resnet8: width is at least 1, got -4"),
    ],
)
def test_option_out_of_range_is_refused(options, message):
    with pytest.raises(SelbenchError, match=message):
        build_model(ModelSpec(name="resnet8", options=options), 10, PLAIN)


# Checkpoints.


def as_it_is(network, path):
    safetensors.torch.save_file({n: t.contiguous() for n, t in network.state_dict().items()}, path)


def by_torch(network, path):
    torch.save(network.state_dict(), path)


def without_normalisation(network, path):
    torch.save(network.network.state_dict(), path)


def with_prefix(network, path):
    torch.save({f"module.{n}": t for n, t in network.network.state_dict().items()}, path)


def whole_with_prefix(network, path):
    torch.save({f"module.{n}": t for n, t in network.state_dict().items()}, path)


def nested(network, path):
    state = {f"module.{n}": t for n, t in network.network.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.7, "epoch": 200}, path)


def without_counters(network, path):
    state = network.network.state_dict()
    torch.save({n: t for n, t in state.items() if "num_batches_tracked" not in n}, path)


WAYS = (
    as_it_is, by_torch, without_normalisation, with_prefix, whole_with_prefix, nested,
    without_counters,
)  # fmt: skip


@pytest.mark.parametrize("save", WAYS)
def test_saved_weights_load(save, tmp_path):
    path = tmp_path / ("weights.safetensors" if save is as_it_is else "weights.pth")
    original, other = small(), small()
    save(original, path)
    assert not torch.allclose(other(images()), original(images()))
    load_weights(other, path)
    assert torch.equal(other(images()), original(images()))


def test_half_precision_weights_load(tmp_path):
    original, other = small(), small()
    torch.save(original.half().state_dict(), tmp_path / "half.pth")
    load_weights(other, tmp_path / "half.pth")
    assert torch.equal(other(images()), original.float()(images()))


def renamed_entry(state):
    state["network.fc.weight"] = state.pop("network.linear.weight")


def missing_entry(state):
    del state["network.linear.bias"]


def extra_entry(state):
    state["network.fc.weight"] = torch.zeros(1)


def wrong_shape(state):
    state["network.linear.weight"] = torch.zeros(10, 16)


MISFITS = {
    renamed_entry: "first missing network.linear.weight, first unexpected network.fc.weight;",
    missing_entry: "first missing network.linear.bias, first unexpected none;",
    extra_entry: "first missing none, first unexpected network.fc.weight;",
    wrong_shape: r"network.linear.weight is \(10, 16\), the model's is \(3, 16\);",
}


@pytest.mark.parametrize("change", MISFITS)
def test_weights_that_do_not_fit_are_named_and_not_loaded(change, tmp_path):
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = small().state_dict()
    change(state)
    torch.save(state, tmp_path / "misfit.pth")
    message = rf"misfit.pth does not fit the model: {MISFITS[change]} choose the architecture it"
    with pytest.raises(SelbenchError, match=message):
        load_weights(network, tmp_path / "misfit.pth")
    assert all(torch.equal(network.state_dict()[name], t) for name, t in before.items())


class Opener:
    """Create a file when it is unpickled."""

    def __reduce__(self):
        return open, ("opened", "w")


def torch_file_with_code(path):
    torch.save({"state_dict": small().network.state_dict(), "more": Opener()}, path)


def pickle_with_code(path):
    path.write_bytes(pickle.dumps({"weights": Opener()}))


@pytest.mark.parametrize("write", [torch_file_with_code, pickle_with_code])
def test_checkpoint_with_code_is_refused_and_nothing_is_run(write, tmp_path):
    write(tmp_path / "evil.pth")
    with pytest.raises(SelbenchError, match=r"evil.pth is no safetensors file and no state dict"):
        load_weights(small(), tmp_path / "evil.pth")
    assert not Path("opened").exists()


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def text_instead(path):
    path.write_text("weights\n")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("damage", [halved, emptied, text_instead])
def test_damaged_checkpoint_is_named(damage, suffix, tmp_path):
    path = tmp_path / f"mine.{suffix}"
    (as_it_is if suffix == "safetensors" else by_torch)(small(), path)
    damage(path)
    message = rf"^{path} is no safetensors file and no state dict .* \(.+\); save model.state_dict"
    with pytest.raises(SelbenchError, match=message):
        load_weights(small(), path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": "b"}}, 7])
def test_checkpoint_without_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(
        SelbenchError, match=r"\(it holds no tensors by name\); save model.state_dict"
    ):
        load_weights(small(), tmp_path / "other.pth")


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(SelbenchError, match=f"there is no checkpoint {tmp_path}/gone.pth"):
        load_weights(small(), tmp_path / "gone.pth")


def test_foreign_resnet20_fits(test_data):
    network = build_model(ModelSpec(name="resnet20"), 10, PLAIN)
    before = network.network.conv1.weight.clone()
    load_weights(network, test_data / "weights" / "resnet20-cifar10.th")
    assert not torch.equal(network.network.conv1.weight, before)


def test_zero_padding_fits_odd_widths():
    model = build_model(
        ModelSpec(name="resnet8", options={"width": 3}), 10, ((0.5,) * 3, (0.25,) * 3)
    )
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
