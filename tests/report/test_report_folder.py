"""Where a report is written: over nothing but an earlier one, and as a whole."""

import os
import signal
import sys
from itertools import count

import pytest

from selbench._kit.errors import SelbenchError
from selbench._kit.files import write_json
from selbench.report import output_folder as module
from selbench.report.output_folder import MARKER, left_behind, replacing_report


@pytest.fixture
def site(tmp_path):
    """Return a folder beside which nothing else lies."""
    return tmp_path / "out/site"


def write(site, *names):
    with replacing_report(site) as folder:
        for name in names:
            (folder / name).mkdir()
            (folder / name / "page.html").write_text(name)


def there(site):
    return sorted(str(path.relative_to(site.parent)) for path in site.parent.rglob("*.html"))


def test_a_folder_that_is_new_or_empty_is_taken(site):
    write(site, "a")
    assert there(site) == ["site/a/page.html"]
    other = site.parent / "empty"
    other.mkdir()
    write(other, "b")
    assert there(other) == ["empty/b/page.html", "site/a/page.html"]


def test_an_earlier_report_is_replaced_as_a_whole(site):
    write(site, "a", "b")
    write(site, "b")
    assert there(site) == ["site/b/page.html"]
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_an_earlier_version_s_report_is_replaced(site):
    write(site, "a")
    write_json(site / MARKER, {"format": 1, "entries": ["a", MARKER]})
    write(site, "b")
    assert there(site) == ["site/b/page.html"]


@pytest.mark.parametrize("marked", [False, True])
def test_what_no_report_wrote_stays(marked, site):
    if marked:
        write(site, "a")
    site.mkdir(parents=True, exist_ok=True)
    mine = site / ("a/notes.txt" if marked else ".git")
    mine.mkdir()
    told = rf"holds '{mine.relative_to(site)}', which no report wrote; empty"
    with pytest.raises(SelbenchError, match=told):
        write(site, "b")
    assert mine.is_dir()
    assert there(site) == (["site/a/page.html"] if marked else [])
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_a_file_is_no_folder(site):
    site.parent.mkdir()
    site.write_text("mine")
    with pytest.raises(SelbenchError, match=r"site is a file; name a folder with --output$"):
        write(site, "a")
    with pytest.raises(SelbenchError, match=r"cannot write .*site/below: Not a directory"):
        write(site / "below", "a")
    assert site.read_text() == "mine"


def test_a_report_that_fails_leaves_the_earlier_one(site):
    write(site, "a")

    class Interrupted(BaseException):
        pass

    def interrupt():
        with replacing_report(site) as folder:
            (folder / "half").mkdir()
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupt()
    assert there(site) == ["site/a/page.html"]
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_a_full_disk_is_one_sentence(site, room_for):
    write(site, "a")
    message = r"cannot write .*site: File too large; make room or permission there, or choose an"
    with pytest.raises(SelbenchError, match=message), room_for(1000), replacing_report(site) as new:
        (new / "large").write_bytes(bytes(2000))
    assert there(site) == ["site/a/page.html"]


def test_a_damaged_marker_is_told(site):
    write(site, "a")
    (site / MARKER).write_text("{")
    with pytest.raises(SelbenchError, match=rf"{MARKER} is damaged"):
        write(site, "b")
    (site / MARKER).write_text("[]")
    with pytest.raises(SelbenchError, match="which no report wrote"):
        write(site, "b")


def killed(moment, site):
    """Replace a report in another process that is killed at a touch of the disk; is it?"""
    child = os.fork()
    if not child:
        numbers = count()

        def hook(event, _):
            if event in DISK and next(numbers) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        write(site, "b")
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


DISK = ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


@pytest.mark.parametrize("exchanges", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_killed_at_any_moment_the_old_or_the_new_report_is_there(exchanges, site, monkeypatch):
    if not exchanges:
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    seen = []
    for moment in count():
        write(site, "a")
        if not killed(moment, site):
            break
        found = [path for path in there(site) if path.startswith("site/")]
        assert found in ([["site/a/page.html"], ["site/b/page.html"]] if exchanges else ANY)
        assert exchanges or found or left_behind(site.parent)[-1].suffix == ".old"
        seen += found
        with pytest.raises(ValueError, match="no report"), replacing_report(site):
            raise ValueError("no report")
        assert there(site) in ANY[:2]
        assert [path.name for path in site.parent.iterdir()] == ["site"]
    assert {*seen} == {"site/a/page.html", "site/b/page.html"}


ANY = [["site/a/page.html"], ["site/b/page.html"], []]


def test_what_a_report_at_work_writes_is_not_left_behind(site):
    with replacing_report(site) as fresh:
        assert left_behind(fresh.parent) == []
        name = fresh.name.replace(str(os.getpid()), "999999999")
        fresh.with_name(name).mkdir()
        assert left_behind(fresh.parent) == [fresh.with_name(name)]
