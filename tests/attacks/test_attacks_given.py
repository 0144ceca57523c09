"""Adversarials that others made: every form is read alike, and what is wrong is said."""

import io
import re
import zipfile

import numpy as np
import pytest
import torch
from networks import SIDE, pictures
from PIL import Image
from safetensors.torch import save_file

from selbench._kit.errors import SelbenchError
from selbench.attacks.given import read_adversarials
from selbench.attacks.gradient import pgd_grid
from selbench.attacks.norms import NORMS
from selbench.attacks.pixels import rounded
from selbench.suites.attacked_given import EPSILONS, FOOL, IN_BALL, reached

COUNT = 6
LEVELS = EPSILONS["linf"]


@pytest.fixture(scope="module")
def given(network):
    """Return images of files, their labels, and what PGD makes of them at two levels."""
    images, labels = pictures(COUNT)
    images = rounded(images)
    options = {"steps": 10, "relative_step": 0.25, "restarts": 0, "key": "test"}
    epsilons = [level / 255 for level in LEVELS]
    found = pgd_grid(network, images, labels, epsilons, NORMS["linf"], examples=labels, **options)
    return images, labels, found


def read(path, labels, positions=None, side=(SIDE, SIDE)):
    return read_adversarials(
        [path], labels, torch.arange(len(labels)) if positions is None else positions, side
    )


def write(path, images, **facts):
    """Write uint8 or float images in the form that the name of a file says."""
    if path.suffix == ".npy":
        np.save(path, images.numpy())
    elif path.suffix == ".npz":
        np.savez(path, images=images.numpy(), **{n: each.numpy() for n, each in facts.items()})
    elif path.suffix == ".safetensors":
        save_file({"adversarial 8": images.contiguous(), "clean": images * 0, **facts}, path)
    else:
        path.mkdir()
        for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(path / f"{number}.png")
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors", "folder"])
def test_every_form_gives_the_images_that_were_written(tmp_path, name, given):
    images, labels, _ = given
    pixels = (images * 255).round().to(torch.uint8)
    found = read(write(tmp_path / name, pixels), labels)
    assert torch.equal(found.of(0, images * 0, torch.arange(COUNT)), images)
    pixels[0, 0, 0, 0] += 1
    write(tmp_path / f"other-{name}", pixels)
    assert read(tmp_path / f"other-{name}", labels).checksum != found.checksum


def test_rows_are_of_the_images_taken_of_all_or_of_those_that_the_file_names(tmp_path, given):
    images, labels, _ = given
    last_first = images.permute(0, 2, 3, 1)
    some = torch.tensor([1, 4])
    places = {
        "taken": (write(tmp_path / "a.npy", last_first[some]), [1, 4]),
        "all": (write(tmp_path / "b.npy", last_first), [*range(COUNT)]),
        "named": (write(tmp_path / "c.npz", last_first[:1], example=torch.tensor([5])), [5]),
    }
    for path, expected in places.values():
        ((_, examples),) = read(path, labels, some).sets
        assert examples.tolist() == expected
    named = read(places["named"][0], labels, some).of(0, 0 * images[:2], torch.tensor([2, 5]))
    assert torch.equal(named, torch.stack([images[0] * 0, images[0]]))


def test_what_an_attack_saved_fells_what_it_felled(tmp_path, network, given):
    images, labels, found = given
    tensors = {f"adversarial {n:g}": each.images for n, each in zip(LEVELS, found, strict=True)}
    save_file({**tensors, "label": labels, "clean": images}, tmp_path / "a.safetensors")
    sets = read(tmp_path / "a.safetensors", labels)
    examples = torch.arange(COUNT)
    again = reached(sets, network, images, labels, examples, NORMS["linf"], LEVELS)
    for theirs, ours in zip(found, again, strict=True):
        assert torch.equal(theirs.fallen, ours.fallen)
    assert found[0].fallen.sum() < found[-1].fallen.sum()
    wrong = found[0].steps == 0
    assert torch.equal(again[-1].counts[FOOL] | wrong, found[-1].fallen | wrong)
    assert again[-1].counts[IN_BALL].sum() == (~wrong).sum()
    far = read(write(tmp_path / "far.npy", 1 - images), labels)
    nothing = reached(far, network, images, labels, examples, NORMS["linf"], LEVELS[:1])[0]
    assert torch.equal(nothing.fallen, wrong)
    assert not nothing.counts[IN_BALL].any()


def bad_zip(path):
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.npy", b"no array")


def pickled(path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    path.write_bytes(buffer.getvalue())


SHAPE = "it has the shape 6 x 3 x 5 x 5, not N x 3 x 6 x 6 or N x 6 x 6 x 3; save images of"
BAD = {
    "a.npy": (lambda p: write(p, torch.zeros(6, 3, 5, 5)), SHAPE),
    "b.npy": (lambda p: write(p, torch.full((6, 3, 6, 6), 2.0)), "it holds values from 2 to 2,"),
    "c.npy": (lambda p: write(p, torch.zeros(6, 3, 6, 6).long()), "it holds int64; save uint8, or"),
    "d.npy": (lambda p: write(p, torch.zeros(4, 3, 6, 6)), "it holds 4 images, not the 6 test"),
    "e.npy": (lambda p: p.write_bytes(b"no array"), "cannot be read ("),
    "f.npy": (pickled, "cannot be read (Object arrays cannot be loaded when allow_pickle=False"),
    "g.npz": (bad_zip, "cannot be read ("),
    "h.safetensors": (lambda p: p.write_bytes(b"\xff" * 40), "cannot be read ("),
    "i.txt": (lambda p: p.write_text("x"), "cannot be read (its name ends with '.txt'); write it"),
    "j": (lambda p: p.mkdir(), "cannot be read (it holds no PNG files); write it again as one of"),
    "k.npy": (lambda p: None, "there is no "),
    "l.npz": (
        lambda p: write(p, torch.zeros(1, 3, 6, 6), example=torch.tensor([6])),
        "it names test images up to 6 of 6, from 0; use the positions",
    ),
    "m.npz": (
        lambda p: write(p, torch.zeros(2, 3, 6, 6), example=torch.tensor([1, 1])),
        "it has two adversarials of one test image; put one into another file",
    ),
    "n.npz": (
        lambda p: write(p, torch.zeros(6, 3, 6, 6), label=torch.full((6,), 9)),
        "it says class 9 of test image 0, of class 4; check that",
    ),
    "o.safetensors": (
        lambda p: save_file({"clean": torch.zeros(6, 3, 6, 6)}, p),
        "it holds no array called 'adversarial'; name it so",
    ),
    "p.npz": (
        lambda p: write(p, torch.zeros(6, 3, 6, 6), label=torch.zeros(5).long()),
        "it holds 6 images and label of another number or kind; give one whole number of label",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(tmp_path, name):
    make, sentence = BAD[name]
    make(tmp_path / name)
    with pytest.raises(SelbenchError, match=re.escape(sentence)) as caught:
        read(tmp_path / name, torch.tensor([4, 4, 3, 0, 3, 4]))
    assert str(caught.value).startswith("--adversarials")
