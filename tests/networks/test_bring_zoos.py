"""Networks of torchvision, timm and RobustBench: what they declare, and what is refused."""

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import models

from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.models import build_model
from selbench.networks import robustbench_zoo, timm_zoo, torchvision_zoo
from selbench.networks.described import NetworkSpec
from selbench.networks.inputs import Inputs, Preprocess
from selbench.networks.loading import bring
from selbench.networks.zoo import careful_loading
from selbench.study import ModelSpec, load_study

SMALL = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture
def ten(image_tree, tiny_study, edit):
    """Return a study of ten handwritten digits."""
    image_tree("ten", classes=10, train=2, test=2)
    edit(tiny_study, 'root = "images"\nvalidation = 12', 'root = "ten"\nvalidation = 2')
    return load_study(str(tiny_study))


@pytest.fixture
def taken(ten):
    """Return a function that brings a network to ten digits of 32 x 32 pixels."""

    def take(spec, **more):
        return bring(NetworkSpec(spec=spec, **more), ten.model, load_dataset(ten.dataset))

    return take


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return where torchvision looks for published weights, an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def offline(monkeypatch):
    """Have every connection fail as without a network."""

    def refuse(*given):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def pixels(size=(40, 52)):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)


# torchvision.


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_declared_preprocessing_is_torchvision_s(name):
    published = models.get_model_weights(name).DEFAULT
    inputs = torchvision_zoo.declared(name, NetworkSpec())
    assert inputs.crop
    assert inputs.resize >= inputs.crop
    image = pixels() / 255
    expected = published.transforms()(image.clone())
    found = Preprocess(Inputs(**{**vars(inputs), "interpolation": inputs.interpolation}))(
        image[None]
    )
    assert found.shape == (1, *expected.shape)
    inner = (expected > expected.min() + 0.05) & (expected < expected.max() - 0.05)
    if inputs.interpolation == "bilinear":
        assert torch.allclose(found[0], expected, atol=1e-4)
    else:  # bicubic overshoots; there an image file would be cut off as we do
        assert (found[0] - expected).abs()[inner].median() < 1e-4


def test_random_torchvision_network_has_the_data_set_s_classes(taken):
    found = taken(SMALL, input_size=32)
    assert found.name == f"{SMALL} (random, input size 32)"
    assert found.load()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert found.about == (
        "images in [0, 1], shorter side 32 (bilinear), centre 32, mean 0.485,0.456,0.406, std "
        "0.229,0.224,0.225; 10 logits; evaluation mode"
    )
    assert taken(SMALL, input_size=32).weights == found.weights
    assert taken(SMALL, input_size=48).weights != found.weights


def test_weights_of_a_file_are_taken(taken, tmp_path):
    torch.manual_seed(5)
    network = models.shufflenet_v2_x0_5(num_classes=10)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"net": state, "epoch": 3}, tmp_path / "mine.pth")
    found = taken(
        SMALL, weights=tmp_path / "mine.pth", mean=(0, 0, 0), std=(1, 1, 1), input_size=32
    )
    assert found.name == f"{SMALL} {tmp_path / 'mine.pth'} (input size 32)"
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(found.load()(images), network.eval()(images), atol=1e-5)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_weights_of_a_file_are_given_images_as_torchvision_gives_them(name, monkeypatch):
    made = {}

    class Made(torch.nn.Identity):
        def __init__(self, *, num_classes, transform_input=False):
            super().__init__()
            made["transform_input"] = transform_input

    monkeypatch.setattr(models, "get_model", lambda name, **given: Made(**given))
    monkeypatch.setattr("selbench.networks.zoo.load_weights", lambda network, path: None)
    filled = torchvision_zoo.torchvision(name, NetworkSpec(weights=Path("mine.pth")), None, 10)
    assert made == {"transform_input": True}
    assert filled.source  # numbers of before are another network's
    assert not torchvision_zoo.torchvision(name, NetworkSpec(), None, 10).source
    assert made == {"transform_input": False}


def test_weights_of_more_classes_need_a_class_map(taken, tmp_path):
    torch.save(models.shufflenet_v2_x0_5(num_classes=12).state_dict(), tmp_path / "twelve.pth")
    with pytest.raises(SelbenchError, match=r"twelve.pth has 12 outputs, .* --class-map"):
        taken(SMALL, weights=tmp_path / "twelve.pth", input_size=32)
    rows = [f"{11 - label},digit-{label}" for label in range(10)]
    (tmp_path / "map.csv").write_text("\n".join(["output,class", *rows]))
    mapped = taken(
        SMALL, weights=tmp_path / "twelve.pth", input_size=32, class_map=tmp_path / "map.csv"
    ).load()
    images = torch.rand(2, 3, 32, 32)
    expected = mapped.network(images)[:, 2:].flip(1)
    assert torch.allclose(mapped(images), expected, atol=1e-6)


def test_pretrained_network_of_other_classes_is_refused(taken, hub):
    hub.mkdir(parents=True)
    weights = models.ShuffleNet_V2_X0_5_Weights.DEFAULT
    torch.save(models.shufflenet_v2_x0_5().state_dict(), hub / weights.url.rpartition("/")[2])
    message = r"\(pretrained\) has 1000 outputs, the data set folder 10 classes; .*--class-map"
    with pytest.raises(SelbenchError, match=message):
        taken(SMALL, pretrained=True)


@pytest.mark.usefixtures("offline")
def test_weights_that_cannot_be_downloaded_say_where_to_put_them(taken, hub):
    message = (
        rf"^the weights of {SMALL} cannot be downloaded from https://download.pytorch.org/.*\(.*"
        rf"Name or service not known\); put the file there by hand: {hub}/shufflenet.*\.pth$"
    )
    with pytest.raises(SelbenchError, match=message):
        taken(SMALL, pretrained=True)


def test_published_file_with_code_is_refused_and_nothing_is_run(taken, hub, evil):
    evil(hub / models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2])
    with pytest.raises(SelbenchError, match=r"does not hold the weights .*: it holds more than"):
        taken(SMALL, pretrained=True)
    assert not Path("opened").exists()


# Loading with care.


def test_no_library_can_unpickle_code(evil, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = evil(tmp_path / "evil.pth")
    with careful_loading(), pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    assert not Path("opened").exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_what_libraries_print_is_no_result(capsys):
    with careful_loading():
        sys.stdout.write("Downloading\n")
    assert capsys.readouterr() == ("", "Downloading\n")


@pytest.mark.parametrize("spec", [SMALL, "timm:resnet10t", "selbench:resnet8"])
@pytest.mark.sample
def test_weights_with_code_are_refused_and_nothing_is_run(spec, taken, evil, tmp_path):
    path = evil(tmp_path / "evil.pth")
    with pytest.raises(SelbenchError, match=r"evil.pth is no safetensors file and no state dict"):
        taken(spec, weights=path)
    assert not Path("opened").exists()


# timm.


@pytest.fixture
def timm():
    return timm_zoo._library()


def test_timm_s_preprocessing_is_that_of_its_evaluation(taken, timm):
    network = taken("timm:resnet10t").load()
    config = timm.data.resolve_model_data_config(network[1])
    transform = timm.data.create_transform(**config, is_training=False)
    rough = pixels((8, 8))[None] / 512 + 0.25
    image = (F.interpolate(rough, (176, 176), mode="bicubic")[0] * 255).round().byte()
    expected = transform(Image.fromarray(image.permute(1, 2, 0).numpy()))
    found = network[0](image[None] / 255)[0]
    assert (found - expected).abs().max() < 0.02  # grey levels are rounded there, 0.0086 apart


def test_timm_s_network_is_random_or_of_a_file(taken, tmp_path):
    random = taken("timm:resnet10t", input_size=32)
    assert random.name == "timm:resnet10t (random, input size 32)"
    network = random.load()[1]
    assert network.num_classes == 10
    torch.save(network.state_dict(), tmp_path / "same.pth")
    again = taken("timm:resnet10t", input_size=32, weights=tmp_path / "same.pth")
    assert again.weights == random.weights
    assert again.name != random.name


def test_timm_s_missing_weights_name_the_source_and_the_package(taken, timm, monkeypatch):
    def fail(name, **given):
        raise RuntimeError("not installed. Run `pip install huggingface_hub`.")

    monkeypatch.setattr(timm, "create_model", fail)
    message = (
        r"weights of timm:resnet18 cannot be loaded from timm/resnet18.* \(RuntimeError: .*\); pip "
        r"install huggingface_hub, or fetch the file by hand and give it with --weights"
    )
    with pytest.raises(SelbenchError, match=message):
        taken("timm:resnet18", pretrained=True)


def test_absent_timm_names_the_package(taken, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SelbenchError, match=r"timm is not installed, .*; pip install timm"):
        taken("timm:resnet18")


# selbench's own.


@pytest.mark.parametrize(("shortcut", "width"), [("A", 4), ("B", 8)])
def test_shortcuts_and_width_are_seen_from_the_weights(shortcut, width, taken, tmp_path):
    spec = ModelSpec(name="resnet8", options={"shortcut": shortcut, "width": width})
    network = build_model(spec, 10, ((0.5,) * 3, (0.25,) * 3))
    state = {f"_orig_mod.{name}": t for name, t in network.network.state_dict().items()}
    torch.save({"model_state_dict": state}, tmp_path / "mine.pth")
    given = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "weights": tmp_path / "mine.pth"}
    found = taken("selbench:resnet8", **given)
    assert found.name == f"selbench:resnet8 {tmp_path / 'mine.pth'}"
    assert found.about.startswith("images in [0, 1], mean 0.5,0.5,0.5, std 0.25,0.25,0.25; 10 log")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.load()(images), network.eval()(images))


# RobustBench.


@pytest.fixture
def stand_in():
    """Return a function that writes random weights as a file of RobustBench's zoo."""

    def write(folder, name="Ding2020MMA", threat="L2"):
        torch.manual_seed(7)
        network = robustbench_zoo._entry("cifar10", threat, name)["model"]()
        path = folder / "robustbench" / "cifar10" / threat / f"{name}.pt"
        path.parent.mkdir(parents=True)
        torch.save({f"module.{n}": t for n, t in network.state_dict().items()}, path)
        return network, path

    return write


def test_robustbench_s_network_is_loaded_from_its_cache(taken, fresh_home, stand_in):
    network, _ = stand_in(fresh_home)
    found = taken("robustbench:Ding2020MMA", threat_model="L2")
    assert found.name == "robustbench:Ding2020MMA (L2)"
    assert found.architecture == "cifar10/L2/Ding2020MMA"
    assert found.about == "images in [0, 1], as they are; 10 logits; evaluation mode"
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found.load()(images), network.eval()(images))
        assert torch.equal(taken(f"robustbench:cifar10/{found.name[12:23]}", threat_model="L2")
                           .load()(images), network(images))  # fmt: skip


@pytest.mark.soak
def test_robustbench_s_network_takes_a_file_of_the_user_s(taken, fresh_home, stand_in):
    network, path = stand_in(fresh_home)
    moved = path.rename(fresh_home / "mine.pt")
    found = taken("robustbench:Ding2020MMA", threat_model="L2", weights=moved)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found.load()(images), network.eval()(images))


@pytest.mark.usefixtures("offline")
def test_robustbench_s_refused_download_says_where_to_put_the_file(taken, fresh_home):
    message = (
        r"^the weights of robustbench:Standard cannot be downloaded from Google Drive, file \w+ "
        r"\(.*\); put them there by hand: "
        rf"{fresh_home}/robustbench/cifar10/Linf/Standard.pt$"
    )
    with pytest.raises(SelbenchError, match=message) as refused:
        taken("robustbench:Standard")
    assert len(str(refused.value)) < 400


def test_robustbench_s_file_with_code_is_refused_and_nothing_is_run(taken, fresh_home, evil):
    evil(fresh_home / "robustbench" / "cifar10" / "Linf" / "Standard.pt")
    with pytest.raises(SelbenchError, match=r"Standard.pt does not hold the weights of .*Unpickl"):
        taken("robustbench:Standard")
    assert not Path("opened").exists()


@pytest.mark.parametrize(
    ("spec", "more", "message"),
    [
        ("Standard", {"threat_model": "linf"}, "unknown threat model 'linf'; did you mean 'Linf'"),
        ("Standard", {"mean": (0, 0, 0)}, "--mean does not apply to robustbench:Standard"),
        (
            "cifar-10/Standard",
            {},
            "unknown zoo of RobustBench in ZOO/NAME 'cifar-10'; did you mean",
        ),
        (
            "Hendrycks2020AugMix_WRN",
            {"threat_model": "L2"},
            "not under L2, but under corruptions; say --threat-model corruptions",
        ),
        ("Chen2020Adversarial", {"weights": Path("networks.py")}, "there is no checkpoint"),
    ],
)
def test_what_robustbench_lacks_is_named(spec, more, message, taken):
    with pytest.raises(SelbenchError, match=message):
        taken(f"robustbench:{spec}", **more)


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "imagenet"])
def test_robustbench_s_preprocessings_are_all_known(data):
    entries = [
        entry
        for zoo, threats in robustbench_zoo._library().all_models.items()
        for networks in threats.values()
        for entry in networks.values()
        if zoo.value == data
    ]
    assert entries
    assert {e.get("preprocessing") or "" for e in entries} <= set(robustbench_zoo.PREPROCESSINGS)
