"""Every file that is read, damaged at random: no traceback, no hang, no other number unseen.

A few files of each kind here; `tox -e soak` damages hundreds.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from written import FACTS

from selbench._kit.deadline import Clock
from selbench._kit.errors import SelbenchError
from selbench._kit.locks import Locks
from selbench.claims.sources import load_claims
from selbench.datasets.images import decode_image
from selbench.models import read_state
from selbench.networks.classes import read_class_map
from selbench.regression.baseline import Baseline, RecordedNetwork, facts, read_baseline
from selbench.regression.baseline import write_baseline as write
from selbench.sets.layout import About, read_about
from selbench.sets.reading import open_array
from selbench.store import Cell, Failure, Measurement, Result, StudyStore, adversarials
from selbench.study import load_study

SECONDS = 60  # that reading a small file may take on a busy machine
HOSTILE = [
    None,
    True,
    -1,
    0,
    10**30,
    0.5,
    "",
    "\0",
    "../x",
    "=1",
    "\x1b[31m",
    [],
    {},
    [[[]]],
    "9" * 5000,
]
CELL = Cell("clean", "clean", 1, "g", "original", 1, "d", 9, "s", 0.0, 0, "t", "resnet8", "w", "h")


# What is written, and how it is read. Files with a digest must give the same, or an error.


def study(folder):
    shipped = Path(load_study.__code__.co_filename).parent / "studies" / "digits.toml"
    (folder / "file.toml").write_bytes(shipped.read_bytes())
    return folder / "file.toml", lambda path: load_study(str(path)), False


def claims(folder):
    shipped = sorted((Path(load_study.__code__.co_filename).parent / "claims").glob("*.toml"))[0]
    (folder / "file.toml").write_bytes(shipped.read_bytes())
    return folder / "file.toml", load_claims, False


def baseline(folder):
    bits = {"clean/clean": np.arange(40)[None] < 30}
    made = Baseline(
        selbench="0.1.0",
        torch="2.11",
        study="tiny",
        subject="alpha=0",
        model={"name": "resnet8"},
        training="t",
        dataset="digits",
        data="d",
        test=40,
        examples=40,
        suites=("clean",),
        networks=(RecordedNetwork(name="seed=0", weights="w"),),
        conditions=facts(bits, {"clean/clean": ("original", 1, "d")}, 40),
    )
    write(made, folder / "file.json")
    return folder / "file.json", read_baseline, True


def stored(folder):
    """Write a store of a cell with outcomes, adversarials and a failure."""
    store = StudyStore(folder, "study")
    store.prepare()
    columns = {
        "key": [CELL.key] * 3,
        "example": [0, 1, 2],
        "label": [0, 1, 2],
        "prediction": [0, 1, 1],
        "confidence": [0.5, 0.25, 1.0],
        "margin": [1.0, 2.0, -1.0],
        "loss": [0.1, 0.2, 0.3],
        "brier": [0.1, 0.2, 0.3],
    }
    store.write([Result(CELL, [Measurement("accuracy", 0.5, 4)])], pa.table(columns))
    store.save(CELL, {"clean": torch.zeros(1, 3, 2, 2), "label": torch.zeros(1)})
    store.fail([Failure(Cell(**{**vars(CELL), "suite": "other"}), "RuntimeError: no", "x.py:1")])
    store.finish(FACTS)
    return store


def manifest(folder):
    return stored(folder).folder / "manifest.json", lambda p: again(p).manifest(), True


def cells(folder):
    return next(stored(folder).folder.glob("cells/*.json")), everything, True


def outcomes(folder):
    return next(stored(folder).folder.glob("cells/*.parquet")), everything, True


def table(folder):
    store = stored(folder)
    for path in store.folder.glob("cells/*"):
        path.unlink()
    return store.folder / "measurements.csv", lambda p: again(p).measurements(), True


def attacked(folder):
    path = next((stored(folder).folder / adversarials.FOLDER).glob("*"))
    return path, lambda path: "" if adversarials.flaw(path) else read_state(path), True


def failure(folder):
    store = stored(folder)
    return (
        next(store.folder.glob("failed/*.json")),
        lambda p: again(p).failures(store.failed()),
        False,
    )


def again(path):
    """Open the store that a file belongs to, as another process does."""
    folder = next(each for each in path.parents if each.name == "study")
    return StudyStore(folder.parent, "study")


def everything(path):
    store = again(path)
    return store.keys(), store.measurements(), store.outcomes()


def mark(folder):
    return (
        stored(folder).root / "selbench.json",
        lambda p: StudyStore(p.parent, "study").prepare(),
        False,
    )


def lock(folder):
    locks = Locks(folder)
    locks.take("name")
    return folder / "name.lock", lambda path: str(Locks(path.parent).held_by_others()), False


def csv_map(folder):
    (folder / "file.csv").write_text("output,class\n0,cat\n1,dog\n2,dog\n")
    return folder / "file.csv", lambda path: read_class_map(path, ["cat", "dog"]), False


def json_map(folder):
    (folder / "file.json").write_text('{"0": "cat", "1": "dog"}')
    return folder / "file.json", lambda path: read_class_map(path, ["cat", "dog"]), False


def checkpoint(folder):
    torch.save({"state_dict": {"a": torch.ones(3), "b": torch.ones(2, 2)}}, folder / "file.pth")
    return folder / "file.pth", read_state, False


def weights(folder):
    safetensors.torch.save_file({"a": torch.ones(3)}, folder / "file.safetensors")
    return folder / "file.safetensors", read_state, False


def about(folder):
    facts_ = {"layout": "npy", "data": "d", "images": 3, "classes": ("a",), "seed": 0, "scale": 32}
    About(**facts_, severities=(1, 5)).write(folder)
    return folder / "selbench-set.json", lambda path: read_about(path.parent), False


def array(folder):
    np.save(folder / "fog.npy", np.zeros((5, 4, 4, 3), np.uint8))
    return folder / "fog.npy", lambda path: np.asarray(open_array(path, 4)).sum(), False


def picture(folder):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "file.png")
    return folder / "file.png", decode_image, False


KINDS = [study, claims, baseline, manifest, cells, outcomes, table, attacked, failure, mark, lock]
KINDS += [csv_map, json_map, checkpoint, weights, about, array, picture]


# How files are damaged.


def of_bytes(draw, content):
    """Change bits, cut, repeat, or put something in."""
    first, last = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    part = content[first:last]
    return draw(
        st.sampled_from(
            [
                content[:first],
                content[:first] + content[last:],
                content[:last] + part + content[last:],
                content[:first] + bytes(each ^ 1 for each in part[:1]) + content[first + 1 :],
                content[:first] + bytes(each ^ 128 for each in part) + content[last:],
                content[:first] + draw(st.binary(max_size=20)) + content[last:],
                content[:first] + b"[" * 5_000 + content[first:],
                content[:first] + b"9" * 5_000 + content[first:],
                content[:first] + b"\0" * len(part) + content[last:],
            ]
        )
    )


def of_digits(draw, content):
    """Put another digit in the place of one: what no form tells."""
    places = [place for place, byte in enumerate(content) if 48 <= byte < 58]
    if not places:
        return of_bytes(draw, content)
    place = draw(st.sampled_from(places))
    return content[:place] + bytes([draw(st.integers(48, 57))]) + content[place + 1 :]


def of_json(draw, content):
    """Put another value in the place of one, or leave a key out."""
    try:
        tree = json.loads(content)
    except ValueError:
        return of_digits(draw, content)
    node = tree
    while isinstance(node, dict | list) and node:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = draw(st.sampled_from(list(keys)))
        inner = node[key]
        if not (isinstance(inner, dict | list) and inner and draw(st.booleans())):
            if draw(st.integers(0, 4)):
                node[key] = draw(st.sampled_from(HOSTILE))
            else:
                del node[key]
            break
        node = inner
    return json.dumps(tree).encode()


def texts(value):
    """Return what can be compared of what was read."""
    if isinstance(value, tuple | list):
        return [texts(each) for each in value]
    if isinstance(value, dict):
        return {name: texts(each) for name, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "to_csv"):
        return value.to_csv()
    return (
        value.tolist()
        if hasattr(value, "tolist")
        else value.to_pylist()
        if hasattr(value, "to_pylist")
        else value
    )


def check(kind, data):
    """Damage one file, read it, and put it back."""
    path, read, digested = kind
    content = path.read_bytes()
    expected = texts(read(path))
    damage = data.draw(st.sampled_from([of_bytes, of_digits, of_json]))
    damaged = damage(data.draw, content)
    path.write_bytes(damaged)
    sentence, found = "", ""
    try:
        with Clock(SECONDS).running():
            found = texts(read(path))
    except SelbenchError as problem:
        sentence = str(problem)
    finally:
        path.write_bytes(content)
    assert len(sentence) < 1000
    assert path.stem in sentence or sentence == ""
    if digested and found != "":
        assert found == expected, damaged


def fuzzed(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Write a file of each kind once."""
    return {kind.__name__: kind(tmp_path_factory.mktemp(kind.__name__)) for kind in KINDS}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
@fuzzed(12)
@given(data=st.data())
@pytest.mark.sample
def test_a_damaged_file_is_named_or_read_as_it_was(kind, places, data):
    check(places[kind], data)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
@fuzzed(500)
@given(data=st.data())
def test_500_damaged_files_are_named_or_read_as_they_were(kind, places, data):
    check(places[kind], data)


def test_the_fuzz_sees_a_number_that_changed(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("1")
    changed = (path, lambda path: path.read_bytes() if path.stat().st_size > 1 else b"1", True)

    class Data:
        def draw(self, strategy):
            return of_two if strategy is not None else None

    def of_two(draw, content):
        return content + b"2"

    with pytest.raises(AssertionError):
        check(changed, Data())
    assert path.read_bytes() == b"1"
