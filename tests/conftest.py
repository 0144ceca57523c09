"""What every test stands on: checked shapes, its own folders, small real images."""

import gc
import hashlib
import io
import os
import re
import resource
import shutil
import signal
import sys
import tarfile
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import chain, takewhile
from pathlib import Path

import jaxtyping
import pytest

# What takes long to import is imported in functions: a process that hands out tests needs none.
PACKAGES = ("selbench", "corruptions")


def modules_with_shapes():
    """List the modules of both packages whose annotations have shapes; importing none of them."""
    shapes = re.compile(r"jaxtyping|selbench\._kit\.types")
    roots = [Path(*find_spec(name).submodule_search_locations) for name in PACKAGES]
    return [
        ".".join(file.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        for root in roots
        for file in root.rglob("*.py")
        if shapes.search(file.read_text())
    ]


def jaxtyped(function=None, **words):
    """Decorate a function as `checked` does."""
    from checked import checked

    return checked(function, **words)


# Before their first import. The tower lets an int stand for a float, as type checkers do.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.jaxtyped = jaxtyped
jaxtyping.install_import_hook(modules_with_shapes(), CHECKER)
pytest.register_assert_rewrite("loading")  # a plain module of tests/datasets that asserts

TINY_STUDY = """\
description = "Trains in about a second"
alphas = [0, 1]
seeds = [0]
suites = ["clean"]

[dataset]
name = "folder"
root = "images"
validation = 12

[model]
name = "resnet8"
options = { width = 4 }

[recipe]
epochs = 2
batch_size = 12
learning_rate = 0.1
precision = "float32"
"""


HASH = 16  # letters of one
LONG = 15  # seconds of a file that should begin early


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file in one process, for its fixtures, and files in their order.

    So too all files that fork processes: what these are forked from takes 10 s to begin.
    """
    from xdist.scheduler import LoadFileScheduling

    if config.getvalue("dist") not in ("load", "loadfile"):
        return None

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "forked" if _forks(config.rootpath / file) else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@cache
def _forks(file):
    return "\nfrom forked import" in file.read_text()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave most members of a `sample` to the soak, and begin with the files that take longest."""
    for members in _sampled(items).values():
        members.sort(key=lambda item: hashlib.md5(item.name.encode()).digest())
        for item in members[1:]:
            item.add_marker("soak")

    def seconds(item):
        mark = item.get_closest_marker("long")
        return mark.args[0] if mark else 0

    items.sort(key=seconds, reverse=True)


def _sampled(items):
    """Return the members that are alike in what their `sample` mark names, and else differ."""
    found = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("sample")
        if mark and not item.get_closest_marker("soak"):
            alike = tuple(str(item.callspec.params[name]) for name in mark.args)
            found[item.nodeid.split("[")[0], alike].append(item)
    return found


def pytest_collection_finish():
    """Spare the collector of garbage what has been imported, until the end."""
    gc.freeze()


def pytest_unconfigure():
    """Let libraries that count what they leave find nothing."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter):
    """Name files that have become long without the mark that has them begin early."""
    seconds = Counter()
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport) and "long" not in report.keywords:
            seconds[report.nodeid.split("::")[0]] += report.duration
    for file, taken in seconds.most_common():
        if taken > LONG:
            terminalreporter.write_line(f"{file} takes {taken:.0f} s: mark it `long`")


def pytest_sessionstart(session):
    """Let tests press Ctrl-C: shells start background jobs with that ignored. One thread each."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not session.config.pluginmanager.hasplugin("dsession"):  # it hands out tests
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory):
    """Keep what tests may share: networks and decoded images are found there by their content."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _own_folders(shared_home, tmp_path, monkeypatch):
    """Keep every test out of the user's cache folder and of the folder pytest was started in."""
    monkeypatch.setenv("SELBENCH_HOME", str(shared_home))
    monkeypatch.delenv("SELBENCH_FROST", raising=False)
    monkeypatch.setattr("corruptions.frost._added", [])
    monkeypatch.setattr("corruptions.frost.PACKAGE", "package_that_nobody_installs")
    monkeypatch.setattr("selbench._kit.files.force", lambda path: None)  # no test cuts the power
    monkeypatch.chdir(tmp_path)


OURS = ("torch.nn.modules.", "selbench.models.")


def _kind(network):
    """Return what tells a network beside its weights; None where a test's own code is in it."""
    if len(network.weights) < HASH:  # no hash: made up by a test
        return None
    if network.training:
        return ""
    try:
        modules = [*network.load().modules()]
    except Exception:
        return None
    hooked = any(each._forward_hooks or each._forward_pre_hooks for each in modules)
    if hooked or not all(type(each).__module__.startswith(OURS) for each in modules):
        return None
    return repr(modules[0])


@pytest.fixture(scope="session", autouse=True)
def _probed_once():
    """Let runs find again what the probe found of the same network in another test."""
    from selbench.networks import probe

    genuine, known = probe.habits_of, {}

    def remembered(network, dataset):
        kind = _kind(network)
        if kind is None:
            return genuine(network, dataset)
        key = network.weights, kind, dataset.test.checksum
        if key not in known:
            known[key] = genuine(network, dataset)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "habits_of", remembered)
        yield


@pytest.fixture(scope="session", autouse=True)
def _parsed_once():
    """Let commands be made of their signatures once, not each time one is run."""
    import typer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture
def fresh_home(tmp_path, monkeypatch):
    """Start the test with an empty SELBENCH_HOME of its own."""
    home = tmp_path / "home"
    monkeypatch.setenv("SELBENCH_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def test_data():
    """Return the folder of real data, or skip: it is too large to be part of the project."""
    folder = os.environ.get("SELBENCH_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set SELBENCH_TEST_DATA to the folder that holds it")
    return Path(folder)


@cache
def _digits():
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images * 255 / 16).round().astype(np.uint8), bunch.target


@cache
def _files_of_digits(classes, train, test, side, suffix):
    """Return {folder: files} of handwritten digits, as the bytes of image files."""
    from PIL import Image

    images, labels = _digits()
    folders = {}
    for label in range(classes):
        chosen = iter(images[labels == label])
        for part, count in (("train", train), ("test", test)):
            files = folders.setdefault(f"{part}/digit-{label}", [])
            for _ in range(count):
                image = Image.fromarray(next(chosen)).convert("RGB").resize((side, side))
                file = io.BytesIO()
                image.save(file, Image.registered_extensions()[f".{suffix.lower()}"])
                files.append(file.getvalue())
    return folders


@pytest.fixture
def image_tree(tmp_path):
    """Return a function that writes handwritten digits as train/<class>/*, test/<class>/*."""

    def write(name="images", classes=3, train=16, test=6, side=32, suffix="png"):
        folders = _files_of_digits(classes, train, test, side, suffix)
        for part, files in folders.items():
            folder = tmp_path / name / part
            folder.mkdir(parents=True)
            for number, content in enumerate(files):
                (folder / f"{number:04}.{suffix}").write_bytes(content)
        return tmp_path / name

    return write


@pytest.fixture
def images(image_tree):
    """Write six handwritten digits of three classes as test images."""
    return image_tree(classes=3, train=1, test=2)


@pytest.fixture
def photographs(tmp_path):
    """Write pictures of three sizes, two of them neighbours of one size."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "photographs"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, size in enumerate([(40, 32), (40, 32), (32, 40), (24, 24)]):  # height, width
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def tiny_study(image_tree, tmp_path):
    """Write a study on 48 images of three digits; return the path of its TOML file."""
    image_tree()
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_STUDY)
    return path


@pytest.fixture
def checkpoint(tiny_study, tmp_path):
    """Save the weights of an untrained network of the study's architecture."""
    import torch

    from selbench.models import build_model
    from selbench.study import load_study

    torch.manual_seed(1)
    study = load_study(str(tiny_study))
    model = build_model(study.model, 3, ((0, 0, 0), (1, 1, 1)))
    torch.save(model.network.state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


@pytest.fixture
def few_conditions(monkeypatch):
    """Shrink the suite of corruptions to four conditions, so that a run takes a moment."""
    from corruptions import CORRUPTIONS

    chosen = {name: CORRUPTIONS[name] for name in ("gaussian_noise", "brightness")}
    monkeypatch.setattr("selbench.suites.corrupted.CORRUPTIONS", chosen)
    monkeypatch.setattr("selbench.suites.corrupted.SEVERITIES", (1, 5))


@pytest.fixture
def few_probes(monkeypatch):
    """Estimate gradients once, however large their errors are: drawing more takes seconds."""
    monkeypatch.setattr("selbench.suites.gradients.TOLERANCE", None)


@pytest.fixture
def quick_weights(monkeypatch):
    """Draw the weights of networks once and repeat them: large ones take seconds to draw."""
    import torch

    drawn = torch.randn(2**16, generator=torch.Generator().manual_seed(0))

    def fill(tensor, *_, **__):
        if tensor.numel() >= 2**24:  # of torchvision's VGG, whose classifier ours drops
            return tensor
        inputs = tensor[0].numel() if tensor.ndim > 1 else 1
        repeated = drawn.repeat(-(-tensor.numel() // len(drawn)))[: tensor.numel()]
        with torch.no_grad():
            return tensor.copy_(repeated.view(tensor.shape) / inputs**0.5)

    for name in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, fill)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a package with a plugin, for one test."""
    from corruptions import registry as entered
    from selbench._kit import registry as plugins
    from selbench.datasets import DATASETS
    from selbench.figures import FIGURES
    from selbench.models import MODELS
    from selbench.suites import METRICS, SUITES

    known = dict(entered._registered)
    for registry in (MODELS, DATASETS, SUITES, METRICS, FIGURES):
        monkeypatch.setattr(registry, "_functions", dict(registry._functions))
    monkeypatch.setattr(plugins, "_seen", set())

    def install(name, source):
        site = tmp_path / f"site-{name}"
        about = site / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[selbench.plugins]\nmore = {name}\n")
        monkeypatch.syspath_prepend(site)

    yield install
    entered._registered.clear()
    entered._registered.update(known)


@pytest.fixture
def edit():
    """Return a function that replaces text in a file, and fails where there is none to replace."""

    def edit(path, old, new):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def selbench(monkeypatch, capsys):
    """Return a function that runs the command line in this process."""
    from selbench.commands.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["selbench", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def refused(selbench):
    """Return a function that runs a command which must fail, and returns its one sentence."""

    def run(*words):
        ended = selbench(*words)
        assert ended.code == 2
        assert ended.out == ""
        assert ended.err.startswith("selbench: ")
        assert ended.err.count("\n") == 1
        return ended.err.removeprefix("selbench: ").removesuffix("\n")

    return run


@pytest.fixture
def room_for():
    """Return a context in which files may have so many bytes, as on a disk that is full."""

    @contextmanager
    def room_for(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return room_for


@pytest.fixture
def match():
    """Return a function that asserts that a pattern is found, and shows the text where not."""

    def match(pattern, text):
        assert re.search(pattern, text), text

    return match


@pytest.fixture(scope="session")
def cifar10_test(test_data, tmp_path_factory):
    """Unpack 50 of CIFAR-10's test images per class, kept as JPEG; a few serve as train/ too."""
    folder = tmp_path_factory.mktemp("cifar10-jpeg")
    with tarfile.open(test_data / "cifar10-jpeg.tar.xz") as archive:
        tests = takewhile(lambda member: member.name.split("/")[0] == "test", archive)
        few = (member for member in tests if member.isfile() and Path(member.name).stem < "0050")
        archive.extractall(folder, few, filter="data")
    for images in sorted((folder / "test").iterdir()):
        (folder / "train" / images.name).mkdir(parents=True)
        for path in sorted(images.iterdir())[:4]:
            shutil.copy(path, folder / "train" / images.name)
    return folder
