"""Networks from a user's code, on the command line and from Python."""

import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.networks.described import NetworkSpec
from selbench.networks.loading import bring
from selbench.networks.zoo import ZOOS
from selbench.study import load_study


@pytest.fixture
def study(tiny_study):
    return load_study(str(tiny_study))


@pytest.fixture
def taken(study):
    """Return a function that brings a network to three digits of 32 x 32 pixels."""

    def take(spec, **more):
        return bring(NetworkSpec(spec=spec, **more), study.model, load_dataset(study.dataset))

    return take


def measurements(store="runs", study="tiny"):
    return pd.read_csv(Path(store) / study / "measurements.csv")


def test_file_and_module_give_the_same_network(taken, networks, monkeypatch):
    of_file = taken(f"{networks}:small")
    copy = networks.with_name("networks_of_a_package.py")  # a name that no other test has imported
    copy.write_text(networks.read_text())
    monkeypatch.syspath_prepend(networks.parent)
    of_module = taken(f"{copy.stem}:small")
    assert of_file.architecture == of_module.architecture == "Small"
    assert of_file.weights == of_module.weights
    assert of_file.name == f"{networks}:small"
    assert not of_file.load().training


def test_weights_whose_path_is_not_utf_8_have_a_name_that_can_be_written(taken, networks):
    path = Path(os.fsdecode(b"weights-\xff.pth"))
    torch.save(taken(f"{networks}:three").load()[1].state_dict(), path)
    assert taken(f"{networks}:three", weights=path).name == f"{networks}:three weights-\\xff.pth"


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone(taken, networks):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = taken(f"{networks}:three")
    assert torch.equal(torch.rand(1), expected)
    assert taken(f"{networks}:three").weights == first.weights


def test_changed_code_is_another_network(taken, networks):
    before = taken(f"{networks}:three").weights
    networks.write_text(networks.read_text().replace("torch.relu", "torch.tanh"))
    assert taken(f"{networks}:three").weights != before


@pytest.mark.parametrize("option", [{"mean": (0.5, 0.5, 0.5)}, {"std": (0.2, 0.2, 0.2)}])
def test_preprocessing_is_part_of_what_identifies_a_network(option, taken, networks):
    plain, other = taken(f"{networks}:three"), taken(f"{networks}:three", **option)
    assert plain.weights != other.weights
    images = torch.rand(2, 3, 32, 32)
    mean, std = option.get("mean", (0.0,))[0], option.get("std", (1.0,))[0]
    assert torch.allclose(other.load()(images), plain.load()((images - mean) / std), atol=1e-5)


def test_images_are_scaled_to_the_input_size(taken, networks, study):
    spec = study.dataset.model_copy(update={"root": study.dataset.root})
    assert load_dataset(spec).test.images.shape[-1] == 32
    seen = []
    network = taken(f"{networks}:three", input_size=31)  # as many positions of the convolution
    assert network.name.endswith(":three (input size 31)")  # beside the same one of another size
    network.load()[1].conv.register_forward_hook(lambda m, given, o: seen.append(given[0].shape))
    network.load()(torch.rand(2, 3, 32, 32))
    assert seen == [(2, 3, 31, 31)]


def test_what_the_network_is_written_in_is_part_of_its_weights(taken, tmp_path):
    inner, outer = tmp_path / "layers_of_mine.py", tmp_path / "outer.py"
    outer.write_text("from layers_of_mine import Mine\n\ndef build():\n    return Mine()\n")
    seen = []
    for sign in ("", "-"):
        sys.modules.pop("layers_of_mine", None)
        inner.write_text(
            "import torch\n\nclass Mine(torch.nn.Module):\n    def forward(self, images):\n"
            f"        return {sign}images.mean((2, 3))\n"
        )
        seen.append(taken(f"{outer}:build").weights)
    sys.modules.pop("layers_of_mine", None)
    assert seen[0] != seen[1]


WRONG = {
    "five": r"five has 5 outputs, the data set folder 3 classes; map outputs to classes with",
    "infinite": r"infinite returns logits that are not finite; look at its weights",
    "pair": r"pair returns a tuple, not a tensor of logits; wrap it in a module that returns them",
    "maps": r"maps makes \(2, 3, 30, 30\) of 2 images, not one row of logits for each",
    "number": r"number returned a int, not a torch.nn.Module; name a function that builds the",
    "broken": r"broken cannot be called \(KeyError: 'weights'; networks.py, line \d+\); it must",
    "picky": r"picky cannot be called \(TypeError: .*\); it must work without arguments, or with",
    "half": r"half cannot take images of float32, having weights of float16 \(RuntimeError: .*\); "
    r"convert it with network.float\(\) where it is made$",
    "ends": r"cannot take images of 32 x 32 pixels \(SystemExit: 4\); take what calls sys.exit out",
    "meta": r"meta cannot be called \(NotImplementedError: .*meta tensor",
    "leaves": r"networks.py:leaves ends the program \(SystemExit: 3; networks.py, line \d+\), as ",
    "smal": r"unknown factory in .*networks.py 'smal'; did you mean 'small'\?",
}


@pytest.mark.parametrize("factory", WRONG)
def test_a_factory_that_does_not_serve_is_refused(factory, taken, networks):
    with pytest.raises(SelbenchError, match=WRONG[factory]):
        taken(f"{networks}:{factory}")


def test_a_network_that_its_factory_puts_on_a_gpu_is_probed_on_the_cpu(taken, networks):
    assert taken(f"{networks}:on_gpu").load()(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_images_that_do_not_fit_are_refused(taken, networks):
    message = r"three \(input size 48\) cannot take images of 32 x 32 .*--input-size"
    with pytest.raises(SelbenchError, match=message):
        taken(f"{networks}:three", input_size=48)


def test_probabilities_are_said(taken, networks):
    with pytest.warns(RuntimeWarning, match="seems to return probabilities, not logits"):
        taken(f"{networks}:probabilities")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module_1", r"ModuleNotFoundError: No module named 'no_such_module_1'"),
        ("1 / 0", r"cannot be imported \(ZeroDivisionError: division by zero; networks.py, line 1"),
        ("def f(:", r"cannot be imported \(SyntaxError: "),
        (
            "import sys; sys.exit(0)",
            r"networks.py ends the program \(SystemExit: 0; networks.py, line 1\), as sys.exit and "
            r"argparse do; leave that to `if __name__ == '__main__':` at the end of the file$",
        ),
        ("import sys; sys.exit()", r"networks.py ends the program \(SystemExit; networks.py, line"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told(code, message, taken, networks):
    networks.write_text(code)
    with pytest.raises(SelbenchError, match=message):
        taken(f"{networks}:three")


SPECS = {
    "torchvison:resnet18": r"unknown kind of model 'torchvison'; did you mean 'torchvision'\?",
    "hub:resnet18": r"unknown kind of model 'hub'; known are .*robustbench.*selbench.*package.mod",
    "resnet18": r"--model 'resnet18' names no network; say KIND:NAME, where KIND is ",
    "torchvision:": r"--model 'torchvision:' names no network",
    "gone.py:net": r"there is no file gone.py for gone.py:net",
    "torchvision:resnet81": r"unknown torchvision network 'resnet81'; did you mean 'resnet18'",
    "selbench:resnet81": r"unknown model 'resnet81'; did you mean 'resnet8'",
    "selbench:resnet20": r"selbench:resnet20 has no weights; give a file with --weights, or",
    "timm:resnet19": r"unknown timm network 'resnet19'; did you mean 'resnet1",
    "robustbench:Standart": r"unknown network of RobustBench for cifar10 .* 'Standard'",
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_that_cannot_be_resolved_names_the_nearest(spec, refused, match):
    match(SPECS[spec], refused("run", "--dataset", "digits", "--model", spec))


def test_every_kind_of_spec_is_documented():
    assert set(ZOOS) == {"hf", "robustbench", "selbench", "timm", "torchvision"}
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert all(f"`{kind}:" in text for kind in ZOOS)


def test_a_study_cannot_name_code(refused, tiny_study, edit, networks, match):
    networks.write_text("open('opened', 'w')")
    edit(tiny_study, 'name = "resnet8"\noptions = { width = 4 }', f'name = "{networks}:three"')
    match(r"unknown model '.*networks.py:three'", refused("run", tiny_study))
    assert not Path("opened").exists()


# Class maps.

FIVE_TO_THREE = '{"4": "digit-0", "0": "digit-1", "3": "digit-1", "1": "digit-2"}'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_class_map_reorders_and_joins_outputs(kind, mark, taken, networks, tmp_path):
    path = tmp_path / f"map.{kind}"
    text = FIVE_TO_THREE
    if kind == "csv":
        text = "output,class\n" + "\n".join(re.findall(r'\d": "digit-\d', text)).replace(
            '": "', ","
        )
    path.write_text(mark + text, encoding="utf-8")
    mapped = taken(f"{networks}:five", class_map=path).load()
    images = torch.rand(2, 3, 32, 32)
    own = mapped.network(images)
    expected = torch.stack([own[:, 4], (own[:, 0].exp() + own[:, 3].exp()).log(), own[:, 1]], 1)
    assert torch.allclose(mapped(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": "digit-0", "1": "digit-1"}', "has no output for the class 'digit-2'"),
        ('{"0": "digit_0"}', "unknown class in .*map.json 'digit_0'; did you mean 'digit-0'"),
        ('{"x": "digit-0"}', "the output 'x' is no whole number from 0"),
        ('{"0": "digit-0", "0": "digit-1"}', "the output '0' is there twice"),
        ('["digit-0"]', "is no JSON object from output to class"),
        ("{", "is not valid JSON"),
        ('{"0": ' * 100_000, r"map.json is not valid JSON: maximum recursion depth"),
        (
            '{"0": ' + "[" * 900 + "]" * 900 + "}",
            r"the output '0' has a list for a class; name one",
        ),
        (f'{{"0": {"1" * 5000}}}', r"map.json is not valid JSON: Exceeds the limit"),
        (f'{{"{"1" * 5000}": "digit-0"}}', r"the output '1+ is no whole number from 0 of up to 9"),
        ('{"0": "digit-0", "1": "digit-1", "5": "digit-2"}', "names the output 5, but .* has 5"),
    ],
)
def test_a_class_map_that_does_not_serve_is_refused(text, message, taken, networks, tmp_path):
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(SelbenchError, match=message):
        taken(f"{networks}:five", class_map=path)


def test_a_csv_class_map_of_endless_fields_is_refused(taken, networks, tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("output,class\n0," + "x" * 200_000)
    with pytest.raises(SelbenchError, match=r"map.csv is not valid CSV: field larger than"):
        taken(f"{networks}:five", class_map=path)


def test_missing_class_map_is_named(taken, networks):
    with pytest.raises(SelbenchError, match=r"cannot read the class map gone\.json"):
        taken(f"{networks}:five", class_map=Path("gone.json"))


# On the command line.


def test_networks_stand_side_by_side(selbench, tiny_study, networks):
    specs = ["--model", f"{networks}:three", "--model", f"{networks}:small"]
    ended = selbench("run", tiny_study, *specs)
    assert ended.code == 0
    assert f"{networks}:three: images in [0, 1], as they are; 3 logits; evaluation" in ended.err
    selbench("run", tiny_study, "--alpha", "0")
    rows = measurements().query("metric == 'accuracy'")
    assert set(rows["subject"]) == {"alpha=0 seed=0", *specs[1::2]}


def test_nothing_is_evaluated_where_one_network_does_not_fit(selbench, tiny_study, networks):
    specs = ["--model", f"{networks}:three", "--model", f"{networks}:five"]
    assert selbench("run", tiny_study, *specs).code == 2
    assert not Path("runs").exists()


def test_a_data_set_needs_no_study(selbench, image_tree, networks):
    image_tree("my photos")
    words = ["--dataset", "folder", "--data", "my photos", "--suite", "clean"]
    ended = selbench("run", "--model", f"{networks}:three", *words)
    assert ended.code == 0, ended.err
    assert set(measurements(study="my-photos")["architecture"]) == {"Small"}


OPTIONS = {
    "dataset and study": (
        ["digits", "--dataset", "digits", "--model", "selbench:resnet8"],
        "the study digits has a data set, and --dataset names another; leave out one of them",
    ),
    "dataset alone": (["--dataset", "digits"], "--dataset names only images"),
    "unknown dataset": (
        ["--dataset", "digit", "--model", "selbench:resnet8"],
        "unknown dataset 'digit'; did you mean 'digits'",
    ),
    "weights alone": (["--weights", "x.pt"], "--weights describes a network that you bring"),
    "pretrained alone": (["--pretrained"], "--pretrained describes a network that you bring"),
    "input size alone": (["--input-size", "32"], "--input-size describes a network that you"),
    "threat model alone": (["--threat-model", "L2"], "--threat-model describes a network that"),
    "class map of a checkpoint": (
        ["--checkpoint", "x.pt", "--class-map", "m.json"],
        "--class-map describes a network that you bring; name it with --model",
    ),
    "class map beside both": (
        ["--checkpoint", "x.pt", "--model", "selbench:resnet8", "--class-map", "m.json"],
        "--class-map describes a --model, not a --checkpoint; use two commands",
    ),
    "pretrained beside both": (
        ["--checkpoint", "x.pt", "--model", "torchvision:resnet18", "--pretrained"],
        "--pretrained describes a --model, not a --checkpoint; use two commands",
    ),
    "threat model beside both": (
        ["--checkpoint", "x.pt", "--model", "robustbench:a", "--threat-model", "L2"],
        "--threat-model describes a --model, not a --checkpoint; use two commands",
    ),
    "alpha and model": (
        ["--alpha", "1", "--model", "selbench:resnet8"],
        "--alpha and --seed are for training, --model is not; leave out one",
    ),
    "two models, one weights": (
        ["--model", "a:b", "--model", "c:d", "--weights", "x.pt"],
        "there are 2 --model and 1 --weights; give one --weights for each",
    ),
    "two sources of weights": (
        ["--model", "torchvision:resnet18", "--pretrained", "--weights", "x.pt"],
        "--pretrained and --weights are two sources of weights; leave out one of them",
    ),
    "threat model of torchvision": (
        ["--model", "torchvision:resnet18", "--threat-model", "L2"],
        "--threat-model does not apply to torchvision:resnet18; leave it out",
    ),
    "deviation": (
        ["--model", "torchvision:resnet18", "--std", "0,1,1"],
        "--mean or --std of torchvision:resnet18: must be positive",
    ),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options_that_do_not_go_together_are_refused(what, refused):
    words, sentence = OPTIONS[what]
    assert sentence in refused("run", *words)


def test_a_network_named_twice_is_refused(refused, tiny_study, networks):
    words = ["run", tiny_study, *["--model", f"{networks}:three"] * 2]
    assert "networks.py:three is named twice; name each network once" in refused(*words)
