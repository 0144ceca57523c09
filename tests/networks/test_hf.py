"""Networks of the Hugging Face Hub, from a local cache that the tests write; no network."""

import json
import shutil

import pytest
import torch

import selbench as package
from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.networks.described import NetworkSpec
from selbench.networks.hf_zoo import _processed, hf
from selbench.study import load_study

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # by timm


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Let the hub's libraries look into a cache of the test's own, and nowhere else."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def keep(name, files):
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        shutil.copytree(files, place / "snapshots" / ("0" * 40))

    return keep


@pytest.fixture
def digits(tiny_study):
    return load_dataset(load_study(str(tiny_study)).dataset)


def test_a_network_of_timm_is_loaded_with_its_weights_and_preprocessing(cache, digits, tmp_path):
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("lcnet_035", num_classes=3).eval()
    (tmp_path / "files").mkdir()
    save_file(network.state_dict(), tmp_path / "files" / "model.safetensors")
    mean = {"mean": [0.1, 0.2, 0.3], "input_size": [3, 96, 96]}
    facts = {"architecture": "lcnet_035", "num_classes": 3, "pretrained_cfg": mean}
    (tmp_path / "files" / "config.json").write_text(json.dumps(facts))
    cache("org/tiny", tmp_path / "files")
    found = hf("org/tiny", NetworkSpec(spec="hf:org/tiny"), digits, 3)
    images = torch.rand(2, 3, 96, 96)
    assert torch.equal(found.network.eval()(images), network(images))
    assert found.inputs.mean == (0.1, 0.2, 0.3)
    rows = package.evaluate("hf:org/tiny", digits, "clean", limit=6)
    assert set(rows["subject"]) == {"hf:org/tiny"}


def test_a_network_of_transformers_returns_its_logits(cache, digits, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    network = transformers.ResNetForImageClassification(config).eval()
    network.save_pretrained(tmp_path / "files")
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(
        tmp_path / "files"
    )
    cache("org/tiny", tmp_path / "files")
    found = hf("org/tiny", NetworkSpec(spec="hf:org/tiny"), digits, 3)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.network.eval()(images), network(images).logits)


def test_processors_say_how_images_are_scaled_and_normalised():
    said = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224}}
    found = _processed(said | {"resample": 3, "image_mean": [0.1, 0.2, 0.3]})
    assert (found.resize, found.crop, found.interpolation) == (256, 224, "bicubic")
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert _processed({"size": {"height": 32}, "do_normalize": False}).mean is None


def test_what_is_not_there_is_one_sentence(cache, digits):
    with pytest.raises(SelbenchError, match=r"hf:org/none cannot be loaded from .*HF_HOME"):
        package.evaluate("hf:org/none", digits, "clean")
    with pytest.raises(SelbenchError, match="hf:resnet names no repository; say hf:ORG/NAME"):
        package.evaluate("hf:resnet", digits, "clean")
    with pytest.raises(SelbenchError, match="weights does not apply to hf:org/none"):
        package.evaluate("hf:org/none", digits, "clean", weights="mine.pth")
