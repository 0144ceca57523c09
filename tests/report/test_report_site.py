"""The report's pages, read as text."""

import gzip
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from selbench.figures import FIGURES

BAD = "<script>alert(1)"


class Reader(HTMLParser):
    """Collects a page's elements, and its text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def every(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(path):
    reader = Reader()
    reader.feed(path.read_text())
    reader.text = re.sub(r"\s+", " ", "".join(reader.text))
    return reader


def pages(site):
    found = sorted(site.rglob("*.html"))
    assert found
    return found


def everything(site):
    return {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def test_every_link_image_and_script_is_in_the_report(site):
    for page in pages(site):
        reader = read(page)
        named = [(each, "href") for tag in ("a", "link") for each in reader.every(tag)]
        named += [(each, "src") for tag in ("img", "script") for each in reader.every(tag)]
        named += [(each, "srcset") for each in reader.every("source")]
        for attributes, key in named:
            target = attributes.get(key, "")
            if not target.startswith(("#", "data:")):
                assert (page.parent / target).is_file(), (page.name, target)


def test_nothing_is_fetched_and_no_script_is_inline(site):
    for page in pages(site):
        reader = read(page)
        (policy,) = [m["content"] for m in reader.every("meta") if "http-equiv" in m]
        assert policy.startswith("default-src 'none'; script-src 'self' file:;")
        assert all(script.get("src") for script in reader.every("script"))
        assert not [a for _, a in reader.elements for name in a if name.startswith("on")]
        assert "http://" not in page.read_text()
        assert "https://" not in page.read_text()


def test_images_have_words_and_sizes(site):
    images = [image for page in pages(site) for image in read(page).every("img")]
    assert len(images) > 50
    for image in images:
        assert len(image["alt"]) > 10
        assert int(image["width"]) > 0
        assert int(image["height"]) > 0


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_there_or_why_it_is_not(name, site):
    text = "".join(page.read_text() for page in pages(site))
    assert f'<section class="figure" id="{name}">' in text or name == "tradeoff"
    if (site / f"figures/{name}.svg").exists():
        assert f'src="figures/{name}.svg"' in text
        for ending in ("-narrow.svg", ".png"):
            assert (site / f"figures/{name}{ending}").is_file()
    else:
        section = text[text.index(f'id="{name}"') :].partition("</section>")[0]
        assert "Not here yet" in section
        assert "selbench run " in section


def test_the_figures_that_the_run_allows_are_drawn(site):
    drawn = {path.stem for path in (site / "figures").glob("*.png")}
    wanted = {"tradeoff", "corruptions", "corruption-differences", "attacks", "selectivity"}
    assert drawn >= wanted
    curves = pd.read_csv(site / "figures/attacks.csv")
    assert set(curves["suite"]) == {"clean", "attacks"}
    assert set(curves["metric"]) == {"accuracy"}


def test_the_overview_says_what_was_measured_and_what_came_out(site):
    text = read(site / "index.html").text
    assert "6 networks of one kind (resnet8) were trained on digits, at alpha = -1, 0, 1" in text
    assert "2 random seeds each" in text
    assert "12 images that training had not seen: as they are, under 1 corruption at 2" in text
    assert "Training that discourages selectivity (alpha = -1) leaves accuracy under" in text
    verdicts = json.loads((site / "downloads/claims.json").read_text())[0]["verdicts"]
    for verdict in ("supported", "refuted", "inconclusive", "not tested"):
        count = sum(each["verdict"] == verdict for each in verdicts)
        assert f"{count} {verdict}" in text


def test_what_was_not_measured_names_the_command_with_store_and_limit(site, ran):
    text = read(site / "mechanism.html").text
    assert "The study little holds no jacobian." in text
    assert f"selbench run study.toml --suite jacobian --limit 12 --store {ran}" in text


def test_the_leaderboard_is_all_there_with_numbers_to_sort_by(site):
    reader = read(site / "leaderboard.html")
    assert "PGD Linf %" in reader.text
    cells = [each for each in reader.every("td") if "data-order" in each]
    assert len(cells) > 3 * 8
    table = pd.read_csv(site / "downloads/leaderboard.csv")
    wanted = {f"{100 * value!r}" for value in table["clean"]}
    assert wanted <= {each["data-order"] for each in cells}


def test_claims_have_verdicts_sources_and_hashes(site):
    verdicts = json.loads((site / "downloads/claims.json").read_text())[0]["verdicts"]
    text = read(site / "claims.html").text
    for each in verdicts:
        assert each["hash"] in text
        assert each["sentence"] in text
        assert each["command"] in text


def test_sample_images_show_corruptions_and_what_an_attack_changed(site):
    text = read(site / "images.html").text
    assert "Attack pgd-linf, epsilon 8/255" in text
    assert re.search(r"The difference is \(adversarial - clean\) x 10, grey", text)
    words = [image["alt"] for image in read(site / "images.html").every("img")]
    assert "test image of class 3 under fog, severity 5" in words
    assert sum("attacked on alpha = -1:" in each for each in words) == 4


def test_differences_are_what_attacks_changed(site, ran):
    def shown(name):
        with Image.open(site / f"images/{name}.png") as image:
            return np.asarray(image, float)

    factor = int(re.search(r"clean\) x (\d+)", read(site / "images.html").text)[1])
    moved = shown("attacked-0-0") - shown("test-0")
    assert np.abs(moved).max() == 8
    apart = np.abs(shown("changed-0-0") - 127.5 - factor * moved)
    assert apart.max() <= 0.5 + 2 * factor * 0.5  # both images are rounded to bytes


def test_provenance_has_commands_versions_hashes_and_checksums(site, ran):
    text = read(site / "provenance.html").text
    manifest = json.loads((ran / "little/manifest.json").read_text())
    for facts in manifest["subjects"].values():
        assert facts["weights"] in text
    for word in (manifest["data"], manifest["training"], "torch 2.15.0", "--save-adversarials 4"):
        assert word in text
    assert "12, the first of a fixed random order" in text
    assert f"selbench figure tradeoff little --output tradeoff.svg --store {ran}" in text
    rows = gzip.decompress((site / "downloads/measurements.csv.gz").read_bytes()).decode()
    assert rows.startswith("suite,condition,level")


def test_provenance_names_a_folder_of_images(written, few_figures, selbench, tmp_path):
    root = written(study={"dataset": {"name": "folder", "root": "/of/flowers", "validation": 9}})
    assert selbench("report", "--store", root).code == 0
    assert "folder flowers" in read(tmp_path / "site/provenance.html").text


def test_equal_stores_give_equal_reports(ran, few_figures, selbench, tmp_path):
    for name in ("one", "other"):
        assert selbench("report", "--store", ran, "-o", name).code == 0
    one, other = everything(tmp_path / "one"), everything(tmp_path / "other")
    assert one == other


@pytest.mark.parametrize("several", [False, True])
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
    assert shown == (6 if several else 5)
    drawn = [path.read_text() for path in (tmp_path / "site").rglob("*.svg")]
    assert not [text for text in drawn if "<script" in text]
    assert len([text for text in drawn if "$\\frac$" in text]) == 2  # wide and narrow


def test_several_studies_have_a_folder_each_and_a_common_index(
    written, few_figures, selbench, tmp_path
):
    written("one")
    root = written("other", suites=("clean",))
    assert selbench("report", "--store", root).code == 0
    site = tmp_path / "site"
    links = [each["href"] for each in read(site / "index.html").every("a")]
    assert {"1-one/index.html", "2-other/index.html"} <= set(links)
    assert "6 networks of one kind" in read(site / "index.html").text
    for page in pages(site):
        for each in read(page).every("script"):
            assert (page.parent / each["src"]).is_file()
    assert selbench("report", "other", "--store", root).code == 0
    assert not (site / "1-one").exists()
    assert read(site / "index.html").text.count("Robustness of other") == 1


def test_a_store_of_clean_accuracies_says_what_else_to_run(written, selbench, tmp_path):
    root = written(suites=("clean",), alphas=(0.0,))
    assert selbench("report", "--store", root).code == 0
    text = read(tmp_path / "site/index.html").text
    assert f"selbench run study.toml --suite corruptions --suite attacks --store {root}" in text
    images = read(tmp_path / "site/images.html").text
    assert "the manifest does not say which data set was used" in images
    assert "selbench report study --data FOLDER --output site" in images
    assert "--suite attacks --save-adversarials 8" in images


def test_a_network_of_one_s_own_is_reported_alone(written, few_figures, selbench, tmp_path):
    root = written(alphas=(), brought=["mine.pth"])
    assert selbench("report", "--store", root).code == 0
    text = read(tmp_path / "site/index.html").text
    assert "1 network was brought from elsewhere." in text
    assert "there are none here" in text


def test_test_images_that_are_not_there_are_told(ran, few_figures, selbench, tmp_path, edit):
    shutil.copytree(ran, tmp_path / "moved")
    manifest = tmp_path / "moved/little/manifest.json"
    edit(manifest, '"name": "digits"', '"name": "folder"')
    edit(manifest, '"root": null', '"root": "/gone"')
    assert selbench("report", "--store", "moved").code == 0
    text = read(tmp_path / "site/images.html").text
    assert "The test images cannot be shown: " in text
    assert "/gone" in text
    assert "Attack pgd-linf" in text


def test_other_test_images_are_refused(ran, few_figures, selbench, tmp_path):
    shutil.copytree(ran, tmp_path / "moved")
    manifest = tmp_path / "moved/little/manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(manifest.read_text().replace(content["data"], "0" * 16))
    for path in (tmp_path / "moved/little/cells").glob("*.json"):
        path.write_text(path.read_text().replace(content["data"], "0" * 16))
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


def test_every_column_of_the_leaderboard_is_explained():
    from selbench.leaderboard import COLUMNS
    from selbench.report.board import GLOSSARY

    asked = {name for name, column in COLUMNS.items() if column.asked}
    assert set(GLOSSARY) | asked >= set(COLUMNS)
    assert set(COLUMNS) >= set(GLOSSARY)


def test_the_package_of_templates_is_complete():
    from selbench import report
    from selbench.report.site import PAGES

    templates = Path(report.__file__).parent / "templates"
    named = {page.template for page in PAGES} | {"layout.html", "parts.html", "studies.html"}
    assert {path.name for path in templates.iterdir()} == named


def test_a_bundle_becomes_a_plain_script():
    from selbench.report.assets import classic

    made = classic("var a=1;export{a as A,b as default};\n/* licences */")
    assert made == "var selbenchTables=(()=>{var a=1;\nreturn{A:a,default:b};})();\n/* licences */"
