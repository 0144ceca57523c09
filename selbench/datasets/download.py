"""Download data sets on request, check their md5, and resume interrupted transfers."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from selbench._kit.errors import SelbenchError
from selbench._kit.files import cannot_write, home, md5_of, write_json
from selbench._kit.locks import Locks
from selbench._kit.progress import Progress
from selbench._kit.registry import Registry

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

MEGABYTE = 2**20
TIMEOUT = 60  # seconds without data
RECEIPT = "selbench-download.json"  # in an unpacked folder: names its archive

TINY_IMAGENET = (
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)
CIFAR10_C = (
    "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
    "56bf5dcef84df0e2308c6dcbcbbd8499",
)
CIFAR100_C = (
    "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar",
    "11f0ed0f1191edbf9fa23466ae6021d3",
)
TINY_IMAGENET_C = (
    "https://zenodo.org/records/8206060/files/Tiny-ImageNet-C.tar",
    "f9c9a9dbdc11469f0b850190f7ad8be1",
)
TINY_IMAGENET_C_EXTRA = (
    "https://zenodo.org/records/8206060/files/Tiny-ImageNet-C-extra.tar",
    "0db0588d243cf403ef93449ec52b70eb",
)

DOWNLOADS = Registry[Callable[[Path, Progress], Path]]("dataset to download")


@DOWNLOADS
def cifar10(folder: Path, progress: Progress) -> Path:
    """Fill `folder`/cifar10 (163 MB); complete files are kept."""
    from torchvision.datasets import CIFAR10

    return _fill_cifar("cifar10", CIFAR10, folder, progress)


@DOWNLOADS
def cifar100(folder: Path, progress: Progress) -> Path:
    """Fill `folder`/cifar100 (161 MB); complete files are kept."""
    from torchvision.datasets import CIFAR100

    return _fill_cifar("cifar100", CIFAR100, folder, progress)


def _fill_cifar(name: str, kind: "type[CIFAR10]", folder: Path, progress: Progress) -> Path:
    place = folder / name
    with _one_at_a_time(name, progress):
        if not (place / kind.base_folder).is_dir():
            fetch(kind.url, place / kind.filename, kind.tgz_md5, progress)
        kind(str(place), download=True)  # checks and unpacks the archive
    return place


@DOWNLOADS
def tiny_imagenet(folder: Path, progress: Progress) -> Path:
    """Fill `folder`/tiny-imagenet-200 (248 MB), unless it is complete."""
    place = folder / "tiny-imagenet-200"
    with _one_at_a_time("tiny-imagenet", progress):
        # Unpacking may have stopped between two entries.
        if not (place / "val" / "val_annotations.txt").is_file() or not (place / "train").is_dir():
            _fill(place, [TINY_IMAGENET], progress)
    return place


@DOWNLOADS
def cifar10_c(folder: Path, progress: Progress) -> Path:
    """Fill `folder`/CIFAR-10-C (2.9 GB); Zenodo 2535967."""
    place = folder / "CIFAR-10-C"
    with _one_at_a_time("cifar10-c", progress):
        _fill(place, [CIFAR10_C], progress)
    return place


@DOWNLOADS
def cifar100_c(folder: Path, progress: Progress) -> Path:
    """Fill `folder`/CIFAR-100-C (2.9 GB); Zenodo 3555552."""
    place = folder / "CIFAR-100-C"
    with _one_at_a_time("cifar100-c", progress):
        _fill(place, [CIFAR100_C], progress)
    return place


@DOWNLOADS
def tiny_imagenet_c(folder: Path, progress: Progress) -> Path:
    """Fill `folder`/Tiny-ImageNet-C with all 19 corruptions; Zenodo 8206060."""
    place = folder / "Tiny-ImageNet-C"
    with _one_at_a_time("tiny-imagenet-c", progress):
        _fill(place, [TINY_IMAGENET_C, TINY_IMAGENET_C_EXTRA], progress)
    return place


@contextmanager
def _one_at_a_time(name: str, progress: Progress) -> Iterator[None]:
    """Let one process at a time download a data set; raise failures as `SelbenchError`."""
    with ExitStack() as held:
        with progress.track(f"download {name}", 1) as step:
            held.enter_context(
                Locks(home() / "locks").holding(
                    f"download-{name}", lambda holder: step(0, f"waits for {holder}")
                )
            )
        with _failures_told(name):
            yield


@contextmanager
def _failures_told(name: str) -> Iterator[None]:
    try:
        yield
    except (
        URLError,
        HTTPException,
        RuntimeError,
        OSError,
        EOFError,
        tarfile.TarError,
        zipfile.BadZipFile,
    ) as problem:
        raise SelbenchError(
            f"{name} could not be downloaded ({problem}); run the same command again to resume, or "
            "get it by hand and name its folder (--data for images, --source for corrupted sets)"
        ) from problem


def _fill(place: Path, archives: list[tuple[str, str]], progress: Progress) -> None:
    """Download archives and unpack them into `place`; a receipt in it marks completion."""
    if (place / RECEIPT).is_file():
        return
    packed = [place.parent / url.rpartition("/")[2] for url, _ in archives]
    for path, (url, md5) in zip(packed, archives, strict=True):
        if not path.is_file() or md5_of(path) != md5:
            fetch(url, path, md5, progress)
    for path in packed:
        unpack(path, place)
    write_json(place / RECEIPT, {url: {"md5": md5} for url, md5 in archives})
    for path in packed:
        path.unlink()


def fetch(url: str, path: Path, md5: str, progress: Progress) -> None:
    """Download `url` to `path`; resume from `path`.part after an interrupted transfer.

    Raises:
        SelbenchError: for a transfer that was cut off, and for content with another md5, which is
            removed.
        OSError: for errors of the connection.
    """
    part = path.with_name(f"{path.name}.part")
    _receive(url, part, progress)
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise SelbenchError(
            f"what {url} sent has the md5 {found}, not {md5}, and was removed; run the same "
            "command again"
        )
    part.replace(path)


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append the missing bytes of `url` to `part`."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.is_file() else 0
        file = part.open("ab")
    except OSError as problem:
        raise cannot_write(part, problem) from problem
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with file:
        try:
            answer = urlopen(request, timeout=TIMEOUT)
        except HTTPError as problem:
            if problem.code == 416:  # nothing is missing
                return
            raise
        with answer:
            if done and answer.status != 206:  # the server sent it from the beginning
                file.truncate(done := 0)
            total = done + int(answer.headers.get("Content-Length", 0))
            title = f"download {part.name.removesuffix('.part')} (MB)"
            with progress.track(title, total // MEGABYTE, done // MEGABYTE) as step:
                while chunk := answer.read(MEGABYTE):
                    try:
                        file.write(chunk)
                    except OSError as problem:
                        raise cannot_write(part, problem) from problem
                    step()
    if part.stat().st_size < total:
        raise SelbenchError(
            f"the download of {url} was cut off after {part.stat().st_size} of {total} bytes; run "
            "the same command again to go on from there"
        )


def unpack(archive: Path, place: Path) -> None:
    """Unpack a .tar or .zip into `place`, without its one outer folder.

    Nothing is written outside `place`'s parent: links and paths to outside are refused.
    """
    staging = place.with_name(f".{place.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _extract(archive, staging)
        outer = list(staging.iterdir())
        content = outer[0] if len(outer) == 1 and outer[0].is_dir() else staging
        place.mkdir(parents=True, exist_ok=True)
        for entry in content.iterdir():
            target = place / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            entry.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(archive: Path, staging: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(staging)  # zipfile itself drops drive letters and ".."
    else:
        with tarfile.open(archive) as packed:
            packed.extractall(staging, filter="data")
