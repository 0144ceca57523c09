"""Downloads, from a local server: resumed where cut off, checked, unpacked into place."""

import errno
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

import pytest

from selbench._kit.errors import SelbenchError
from selbench._kit.locks import Locks
from selbench._kit.progress import SILENT, Progress
from selbench.datasets import DOWNLOADS, download

CONTENT = bytes(range(256)) * 20_000  # 5 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; cuts every answer off after `limit` bytes; notes the ranges asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.limit, self.ranges, self.honours_ranges = {}, None, [], True

    def handle_error(self, request, client_address):
        """Pass over a client that has hung up."""

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        content = server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        first = 0
        if asked and server.honours_ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first:][: server.limit])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.files["set.bin"] = CONTENT
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_whole_and_counts_its_megabytes(server, tmp_path):
    class Counting(Progress):
        def track(self, task, pieces, done=0):
            told.append((task, pieces, done))
            return super().track(task, pieces, done)

    told = []
    download.fetch(server.url("set.bin"), tmp_path / "new" / "set.bin", MD5, Counting())
    assert (tmp_path / "new" / "set.bin").read_bytes() == CONTENT
    assert told == [("download set.bin (MB)", 4, 0)]


@pytest.mark.parametrize("honours", [True, False])
def test_a_download_that_was_cut_off_goes_on_where_it_stopped(server, tmp_path, honours):
    server.limit, server.honours_ranges = 3_000_000, honours
    path = tmp_path / "set.bin"
    sentence = (
        f"the download of {server.url('set.bin')} was cut off after 3000000 of {len(CONTENT)} "
        "bytes; run the same command again to go on from there"
    )
    with pytest.raises(SelbenchError, match=f"^{re.escape(sentence)}$"):
        download.fetch(server.url("set.bin"), path, MD5, SILENT)
    assert not path.exists()
    server.limit = None
    download.fetch(server.url("set.bin"), path, MD5, SILENT)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000000-"]


def test_a_download_that_stopped_at_its_last_byte_is_taken(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    download.fetch(server.url("set.bin"), tmp_path / "set.bin", MD5, SILENT)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_content_with_another_md5_is_refused_and_removed(server, tmp_path):
    server.files["set.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(
        SelbenchError, match=f"sent has the md5 .*, not {MD5}, and was removed; run"
    ):
        download.fetch(server.url("set.bin"), tmp_path / "set.bin", MD5, SILENT)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_so_and_keeps_what_it_has(server, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, chunk):
            raise OSError(errno.ENOSPC, "No space left on device")

    path = type(tmp_path)
    monkeypatch.setattr(path, "open", lambda self, *arguments: Full())
    message = r"cannot write .*set\.bin\.part: No space left on device; make room"
    with pytest.raises(SelbenchError, match=message):
        download.fetch(server.url("set.bin"), tmp_path / "set.bin", MD5, SILENT)


def packed_tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def packed_zip(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def served(server, monkeypatch):
    """Return a function that serves an archive in the place of a genuine one."""

    def serve(constant, content):
        name = getattr(download, constant)[0].rpartition("/")[2]
        server.files[name] = content
        facts = (server.url(name), hashlib.md5(content).hexdigest())
        monkeypatch.setattr(download, constant, facts)

    return serve


def test_cifar10_c_is_unpacked_into_its_place(served, server, selbench, fresh_home):
    files = {"CIFAR-10-C/fog.npy": b"fog", "CIFAR-10-C/labels.npy": b"labels"}
    served("CIFAR10_C", packed_tar(files))
    place = fresh_home / "datasets" / "CIFAR-10-C"
    ended = selbench("download", "cifar10-c", "--quiet")
    assert (ended.code, ended.out) == (0, f"cifar10-c is in {place}\n")
    found = sorted(path.name for path in place.iterdir())
    assert found == ["fog.npy", "labels.npy", download.RECEIPT]
    assert [path.name for path in place.parent.iterdir()] == ["CIFAR-10-C"]
    asked = len(server.ranges)
    assert selbench("download", "cifar10-c").code == 0
    assert len(server.ranges) == asked  # nothing was downloaded again


def test_tiny_imagenet_c_is_put_together_from_two_archives(served, selbench, fresh_home):
    served("TINY_IMAGENET_C", packed_tar({"Tiny-ImageNet-C/fog/1/n1/a.JPEG": b"a"}))
    served("TINY_IMAGENET_C_EXTRA", packed_tar({"extra/saturate/1/n1/b.JPEG": b"b"}))
    assert selbench("download", "tiny-imagenet-c").code == 0
    place = fresh_home / "datasets" / "Tiny-ImageNet-C"
    assert (place / "fog" / "1" / "n1" / "a.JPEG").read_bytes() == b"a"
    assert (place / "saturate" / "1" / "n1" / "b.JPEG").read_bytes() == b"b"


def test_an_interrupted_unpacking_is_done_again(served, selbench, fresh_home, monkeypatch):
    files = {"CIFAR-10-C/fog.npy": b"fog", "CIFAR-10-C/labels.npy": b"labels"}
    served("CIFAR10_C", packed_tar(files))
    genuine = download.write_json

    def killed(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "write_json", killed)
    assert selbench("download", "cifar10-c").code == 130
    monkeypatch.setattr(download, "write_json", genuine)
    place = fresh_home / "datasets" / "CIFAR-10-C"
    (place / "fog.npy").write_bytes(b"half")
    assert selbench("download", "cifar10-c").code == 0
    assert (place / "fog.npy").read_bytes() == b"fog"


def test_tiny_imagenet_is_unpacked_from_its_zip(served, selbench, fresh_home):
    served("TINY_IMAGENET", packed_zip({"tiny-imagenet-200/val/val_annotations.txt": b"x"}))
    place = fresh_home / "datasets" / "tiny-imagenet-200"
    assert selbench("download", "tiny-imagenet").out == f"tiny-imagenet is in {place}\n"
    assert (place / "val" / "val_annotations.txt").read_bytes() == b"x"


def test_download_of_what_is_there_downloads_nothing(selbench, fresh_home):
    place = fresh_home / "datasets" / "tiny-imagenet-200"
    (place / "val").mkdir(parents=True)
    (place / "val" / "val_annotations.txt").touch()
    (place / "train").mkdir()
    assert selbench("download", "tiny-imagenet").out == f"tiny-imagenet is in {place}\n"


def test_a_tree_that_was_moved_in_part_is_unpacked_again(served, selbench, fresh_home):
    files = {"val/val_annotations.txt": b"x", "train/n1/images/a.JPEG": b"a"}
    served("TINY_IMAGENET", packed_zip({f"tiny-imagenet-200/{n}": c for n, c in files.items()}))
    place = fresh_home / "datasets" / "tiny-imagenet-200"
    (place / "val").mkdir(parents=True)
    (place / "val" / "val_annotations.txt").write_bytes(b"x")
    assert selbench("download", "tiny-imagenet").code == 0
    assert (place / "train" / "n1" / "images" / "a.JPEG").read_bytes() == b"a"


def test_of_two_downloads_at_once_the_second_finds_what_the_first_made(
    served, server, selbench, fresh_home
):
    served("CIFAR10_C", packed_tar({"CIFAR-10-C/fog.npy": b"fog"}))
    first, second = Locks(fresh_home / "locks"), []
    assert first.take("download-cifar10-c") is None
    place = fresh_home / "datasets" / "CIFAR-10-C"
    waits = threading.Event()

    class Waiting(Progress):
        @contextmanager
        def track(self, task, pieces, done=0):
            yield lambda pieces=1, note="": waits.set() if "waits for process" in note else None

    thread = threading.Thread(
        target=lambda: second.append(DOWNLOADS["cifar10-c"](place.parent, Waiting()))
    )
    thread.start()
    assert waits.wait(30)
    place.mkdir(parents=True)
    (place / download.RECEIPT).write_text("{}")
    first.release("download-cifar10-c")
    thread.join()
    assert second == [place]
    assert server.ranges == []


@pytest.mark.parametrize("content", [b"half", b""])
def test_an_archive_of_another_md5_that_lies_there_is_not_trusted(
    content, served, selbench, fresh_home
):
    served("CIFAR10_C", packed_tar({"CIFAR-10-C/fog.npy": b"fog"}))
    place = fresh_home / "datasets"
    place.mkdir(parents=True)
    (place / "CIFAR-10-C.tar").write_bytes(content)
    assert selbench("download", "cifar10-c").code == 0
    assert (place / "CIFAR-10-C" / "fog.npy").read_bytes() == b"fog"


def test_an_archive_that_cannot_be_unpacked_leaves_nothing_half_done(served, refused, fresh_home):
    served("CIFAR10_C", packed_tar({"CIFAR-10-C/fog.npy": b"fog" * 9999})[:6000])
    assert "could not be downloaded" in refused("download", "cifar10-c")
    assert not (fresh_home / "datasets" / "CIFAR-10-C").exists()
    assert not list((fresh_home / "datasets").glob(".*"))


def test_cifar10_is_resumed_too(server, refused, fresh_home, monkeypatch):
    from torchvision.datasets import CIFAR10

    server.files["cifar.tar.gz"], server.limit = CONTENT, 1000
    monkeypatch.setattr(CIFAR10, "url", server.url("cifar.tar.gz"))
    assert "cut off after 1000 of" in refused("download", "cifar10")
    assert "cut off after 2000 of" in refused("download", "cifar10")


def test_an_archive_that_leads_out_of_its_folder_is_refused(served, refused, fresh_home):
    served("CIFAR10_C", packed_tar({"../../outside": b"x"}))
    assert "could not be downloaded" in refused("download", "cifar10-c")
    assert not list(fresh_home.rglob("outside"))


@pytest.mark.parametrize("name", DOWNLOADS)
def test_a_failing_download_is_one_sentence(name, refused, monkeypatch, match):
    def fail(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(download, "urlopen", fail)
    match(
        rf"{name} could not be downloaded \(.*no route.*\); run the same command again to resume, "
        r"or get it by hand and name its folder \(--data for images, --source for corrupted sets\)",
        refused("download", name),
    )
