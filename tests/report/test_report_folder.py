"""Where a report is written: over nothing but an earlier one, and as a whole."""

import pytest

from selbench.errors import SelbenchError
from selbench.report.folder import MARKER, replacing_report


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
    (site / "a/left-over.html").write_text("")
    write(site, "b")
    assert there(site) == ["site/b/page.html"]
    assert [path.name for path in site.parent.iterdir()] == ["site"]


@pytest.mark.parametrize("marked", [False, True])
def test_what_no_report_wrote_stays(marked, site):
    if marked:
        write(site, "a")
    site.mkdir(parents=True, exist_ok=True)
    (site / ".git").mkdir()
    with pytest.raises(SelbenchError, match=r"holds '\.git', which no report wrote; empty"):
        write(site, "b")
    assert (site / ".git").is_dir()
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
