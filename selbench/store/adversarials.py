"""Files of adversarials, one for each network and attack."""

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from PIL import Image as Picture
from safetensors import SafetensorError, safe_open
from torch import Tensor

from selbench._kit.errors import in_short
from selbench._kit.files import at_hand, replacing
from selbench.store.cells import Cell

FOLDER = "adversarials"
IN_FILES = "-uint8"  # suffix of conditions with adversarials of 8-bit pixels
DIGEST = "digest"  # key in the file's metadata of the tensors' digest


def path_of(folder: Path, cell: Cell) -> Path:
    """Return the path of an attack's adversarials in a study, by its first cell."""
    # Other images, another helper or another version give another key.
    return folder / FOLDER / f"{cell.condition}-{cell.key}.safetensors"


def write_adversarials(folder: Path, cell: Cell, tensors: dict[str, Tensor]) -> None:
    """Write adversarials with their facts; also as pictures if they have 8-bit pixels."""
    path = path_of(folder, cell)
    if cell.condition.endswith(IN_FILES):
        _write_pictures(path.with_suffix(""), tensors)
    about = {"attack": cell.condition, "subject": cell.subject, "weights": cell.weights}
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, about | {DIGEST: digest_of(tensors)})


def _write_pictures(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write the images that fool the network as `folder`/level/example.png, without loss."""
    for name, images in tensors.items():
        kind, _, level = name.partition(" ")
        if kind != "adversarial":
            continue
        fools = tensors[f"prediction {level}"] != tensors["label"]
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        for place in fools.nonzero(as_tuple=True)[0].tolist():
            path = folder / level / f"{int(tensors['example'][place])}.png"
            with replacing(path) as temporary:
                Picture.fromarray(pixels[place]).save(temporary, format="PNG")


def count(path: Path) -> int:
    """Return the number of images with stored adversarials; 0 for a damaged or foreign file."""
    if not path.is_file():
        return 0
    try:
        with at_hand(path) as near, safe_open(near, framework="pt") as file:
            return int(file.get_slice("label").get_shape()[0])
    except (SafetensorError, OSError, IndexError):
        return 0


def flaw(path: Path) -> str:
    """Return what is wrong with a file of adversarials, "" for nothing.

    Files of earlier versions have no digest; they are right if they can be read.
    """
    try:
        with at_hand(path) as near, safe_open(near, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            digest = (file.metadata() or {}).get(DIGEST)
    except (SafetensorError, OSError) as problem:
        return f"it is damaged ({in_short(problem)})"
    if digest not in (None, digest_of(tensors)):
        return "its content is not what was written"
    return "" if "label" in tensors else "it holds no adversarials"


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 of tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
