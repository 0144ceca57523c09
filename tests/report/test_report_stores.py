"""Reports of stores that are made for one test each, read as text."""

import json
import re
import shutil
from contextlib import contextmanager

import pytest
from pages import everything, pages, read

from selbench.figures import FIGURES
from selbench.report.drawings import shorten
from selbench.store import RUNNING, StudyStore
from selbench.store.findings import GRADIENTS, draw_name
from selbench.store.manifest import write_manifest

pytestmark = pytest.mark.long(12)

BAD = "<script>alert(1)"


@pytest.mark.soak
def test_provenance_names_a_folder_of_images(written, no_figures, selbench, tmp_path):
    root = written(study={"dataset": {"name": "folder", "root": "/of/flowers", "validation": 9}})
    assert selbench("report", "--store", root).code == 0
    assert "folder flowers" in read(tmp_path / "site/provenance.html").text


@pytest.mark.soak
def test_equal_stores_give_equal_reports(ran, few_figures, selbench, tmp_path):
    for name in ("one", "other"):
        assert selbench("report", "--store", ran, "-o", name).code == 0
    one, other = everything(tmp_path / "one"), everything(tmp_path / "other")
    assert one == other


@pytest.mark.soak
def test_findings_are_said_where_their_numbers_are_missing(
    written, no_figures, selbench, tmp_path, monkeypatch
):
    chosen = {"tradeoff": FIGURES["tradeoff"]}  # of the page of attacks
    monkeypatch.setattr("selbench.report.drawings.FIGURES", chosen)
    finding = {"code": "no_gradients", "sentence": "has none; add some", "spoils": GRADIENTS}
    draws = [draw_name("mine.pth", number) for number in (1, 2)]
    root = written("found", brought=draws)
    store = StudyStore(root, "found")
    manifest = store.manifest()
    weights = [manifest["subjects"][name]["weights"] for name in draws]
    store.finish({**manifest, "findings": {each: [finding] for each in weights}})
    assert selbench("report", "found", "--store", root).code == 0
    sentence = "mine.pth has none; add some (under attacks that follow gradients no number: -)."
    for page in ("index", "attacks", "provenance"):
        assert read(tmp_path / f"site/{page}.html").text.count(sentence) == 1, page
    assert "1 network was brought from elsewhere" in read(tmp_path / "site/index.html").text
    assert read(tmp_path / "site/provenance.html").text.count("no gradients") == 2


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.sample
def test_names_are_text(several, written, few_figures, selbench, tmp_path):
    root = written(BAD, brought=[f"/tmp/{BAD}.pth", "$\\frac$ & _.pth"])
    if several:
        written("other")
    ended = selbench("report", "--store", root)
    assert (ended.code, ended.err) == (0, "")
    shown = 0
    for page in pages(tmp_path / "site"):
        assert "<script>" not in page.read_text()
        shown += BAD in read(page).text
    assert shown == (11 if several else 10)  # five of them are pages of networks
    drawn = [path.read_text() for path in (tmp_path / "site").rglob("*.svg")]
    assert not [text for text in drawn if "<script" in text]
    assert len([text for text in drawn if "$\\frac$" in text]) == 2  # wide and narrow


@pytest.mark.soak
def test_several_studies_have_a_folder_each_and_a_common_index(
    written, no_figures, selbench, tmp_path
):
    written("one")
    root = written("other", suites=("clean",))
    assert selbench("report", "--store", root).code == 0
    site = tmp_path / "site"
    links = [each["href"] for each in read(site / "index.html").every("a")]
    assert {"1-one/index.html", "2-other/index.html"} <= set(links)
    assert {f"{place}/network-alpha=-1.html" for place in ("1-one", "2-other")} <= set(links)
    assert "6 networks of one kind" in read(site / "index.html").text
    for page in pages(site):
        for each in read(page).every("script"):
            assert (page.parent / each["src"]).is_file()
    assert selbench("report", "other", "--store", root).code == 0
    assert not (site / "1-one").exists()
    assert read(site / "index.html").text.count("Robustness of other") == 1


def test_a_store_of_clean_accuracies_says_what_else_to_run(written, no_figures, selbench, tmp_path):
    root = written(suites=("clean",), alphas=(0.0,))
    assert selbench("report", "--store", root).code == 0
    text = read(tmp_path / "site/index.html").text
    assert f"selbench run study.toml --suite corruptions --suite attacks --store {root}" in text
    images = read(tmp_path / "site/images.html").text
    assert "the manifest does not say which data set was used" in images
    assert "selbench report study --data FOLDER --output site" in images
    assert "--suite attacks --save-adversarials 8" in images


@pytest.mark.soak
def test_a_network_of_one_s_own_is_reported_alone(written, no_figures, selbench, tmp_path):
    root = written(alphas=(), brought=["mine.pth"])
    assert selbench("report", "--store", root).code == 0
    text = read(tmp_path / "site/index.html").text
    assert "1 network was brought from elsewhere." in text
    assert "80.0 % clean" in text
    assert "It loses most under: fog: 50.0 % (-30.0 points against clean)" in text
    assert re.search(r"corruption ?1 ?2 ?mean ?fog ?50.0 ?50.0 ?50.0", text)
    assert "40.0 % attacked, linf 8/255" in text
    assert "alpha" not in text
    assert not (tmp_path / "site/claims.html").exists()
    assert not list((tmp_path / "site/downloads").glob("claims*"))
    for page in pages(tmp_path / "site"):
        assert "claims.html" not in page.read_text(), page.name
    shades = {td.get("class") for td in read(tmp_path / "site/index.html").every("td")} - {None}
    assert shades == {"h4", "h5"}


def test_what_a_brought_network_lacks_is_said_with_what_measures_it(
    written, no_figures, selbench, tmp_path
):
    root = written(alphas=(), brought=["mine.pth", "other.pth"], suites=("clean",))
    assert selbench("report", "--store", root, "--name", "mine.pth").code == 0
    text = read(tmp_path / "site/index.html").text
    assert "No corruption was measured. This measures it: selbench run" in text
    assert "No attack was measured." in text
    assert "mine.pth" in text
    assert "other.pth" not in text


def test_the_first_page_of_several_networks_leads_to_each(written, no_figures, selbench, tmp_path):
    root = written(alphas=(), brought=["mine.pth", "other.pth"])
    assert selbench("report", "--store", root).code == 0
    first = read(tmp_path / "site/index.html")
    assert "mine.pth" in first.text
    assert first.text.count("80.0 % clean") == 2
    assert "mean" not in first.text.partition("other.pth")[0]  # maps are on their pages
    for name in ("mine.pth", "other.pth"):
        assert f"network-{name}.html" in {each["href"] for each in first.every("a")}
        page = read(tmp_path / f"site/network-{name}.html").text
        assert f"selbench did not train this network. Hash of its weights: w{name}." in page
        assert re.search(r"corruption ?1 ?2 ?mean ?fog ?50.0 ?50.0 ?50.0", page)


def unsigned(path):
    """Leave out of a file what it says that it must be, so that it may be changed."""
    content = json.loads(path.read_text())
    kept = {name: content[name] for name in content if name not in ("digest", "state")}
    path.write_text(json.dumps(kept, indent=1))
    return path


@pytest.mark.parametrize("facts", [{}, {"alphas": (), "brought": ["mine.pth"]}])
@pytest.mark.sample
def test_a_run_that_was_cut_off_is_said_on_the_first_page(
    facts, written, no_figures, selbench, tmp_path
):
    root, said = written(**facts), "A run is still at work or was cut off; these are the results"
    assert selbench("report", "--store", root).code == 0
    assert said not in read(tmp_path / "site/index.html").text
    write_manifest(
        root / "study/manifest.json", StudyStore(root, "study").manifest() | {"state": RUNNING}
    )
    assert selbench("report", "--store", root).code == 0
    assert said in read(tmp_path / "site/index.html").text


@pytest.mark.soak
def test_test_images_that_are_not_there_are_told(ran, few_figures, selbench, tmp_path, edit):
    shutil.copytree(ran, tmp_path / "moved")
    manifest = unsigned(tmp_path / "moved/little/manifest.json")
    edit(manifest, '"name": "digits"', '"name": "folder"')
    edit(manifest, '"root": null', '"root": "/gone"')
    assert selbench("report", "--store", "moved").code == 0
    text = read(tmp_path / "site/images.html").text
    assert "The test images cannot be shown: " in text
    assert "/gone" in text
    assert "Attack pgd-linf" in text


@pytest.mark.soak
def test_other_test_images_are_refused(ran, few_figures, selbench, tmp_path):
    shutil.copytree(ran, tmp_path / "moved")
    manifest = unsigned(tmp_path / "moved/little/manifest.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(manifest.read_text().replace(content["data"], "0" * 16))
    for path in (tmp_path / "moved/little/cells").glob("*.json"):
        unsigned(path).write_text(path.read_text().replace(content["data"], "0" * 16))
    assert selbench("report", "--store", "moved").code == 0
    text = read(tmp_path / "site/images.html").text
    assert f"are others than those that were measured (checksum {content['data']}, not 0000" in text
    assert "No adversarial images were kept." in text


def test_bad_stores_and_folders_are_one_sentence(written, refused, tmp_path):
    assert "there are no results in runs" in refused("report")
    root = written()
    assert "unknown study" in refused("report", "stduy", "--store", root)
    assert "holds no results on 7 test images" in refused("report", "--store", root, "--limit", 7)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/thesis.tex").write_text("years of work")
    assert refused("report", "--store", root) == (
        "the folder site holds 'thesis.tex', which no report wrote; empty the folder, or choose "
        "another one with --output"
    )


def test_a_store_is_read_once_and_each_figure_is_a_step(
    written, few_figures, tmp_path, monkeypatch
):
    from selbench._kit.progress import Progress
    from selbench.report import drawings
    from selbench.report.site import write_report
    from selbench.tables.current import current_rows

    monkeypatch.setattr("selbench.report.site.FIGURES", drawings.FIGURES)
    steps, reads = [], []

    class Counted(Progress):
        @contextmanager
        def track(self, task, pieces, done=0):
            yield lambda pieces=1, note="": steps.append((pieces, note))
            assert sum(pieces for pieces, _ in steps) == pieces

    def measurements(store, read=StudyStore.measurements):
        reads.append(store.study)
        return read(store)

    store = StudyStore(written(), "study")
    monkeypatch.setattr(StudyStore, "measurements", measurements)
    write_report([store], tmp_path / "site", progress=Counted())
    assert reads == ["study"]
    assert {f"study: {name}" for name in drawings.FIGURES} < {note for _, note in steps}
    current_rows(store)
    assert len(reads) == 2


def test_texts_of_pictures_keep_their_size_and_lose_their_fonts(tmp_path):
    path = tmp_path / "a.svg"
    fonts = "'DejaVu Sans', 'Arial', sans-serif"
    path.write_text(f'<text style="font-size: 9px; font-family: {fonts}; fill: #262626">a</text>')
    shorten(path)
    wanted = '<text style="font-size: 9px; font-family: sans-serif; fill: #262626">a</text>'
    assert path.read_text() == wanted


def test_networks_without_clean_accuracies_have_pages(written, no_figures, selbench, tmp_path):
    ended = selbench("report", "--store", written(suites=("corruptions",)))
    assert (ended.code, ended.err) == (0, "")
    page = read(tmp_path / "site/network-alpha=-1.html").text
    assert "alpha = -1" in page
