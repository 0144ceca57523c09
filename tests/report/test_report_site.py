"""The report's pages, read as text, and in a browser."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import pages, read
from PIL import Image

from selbench.figures import FIGURES

pytestmark = pytest.mark.long(10)


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
        assert (site / f"figures/{name}-narrow.svg").is_file()
    else:
        section = text[text.index(f'id="{name}"') :].partition("</section>")[0]
        assert "Not here yet" in section
        assert "selbench run " in section


def test_the_figures_that_the_run_allows_are_drawn(site):
    drawn = {path.stem for path in (site / "figures").glob("*.svg")}
    wanted = {"tradeoff", "corruptions", "corruption-differences", "attacks", "selectivity"}
    assert drawn >= wanted
    curves = pd.read_csv(site / "figures/attacks.csv.gz")
    assert set(curves["suite"]) == {"clean", "attacks"}
    assert set(curves["metric"]) == {"accuracy"}


def test_the_overview_says_what_was_measured_and_what_came_out(site):
    text = read(site / "index.html").text
    assert "6 networks of one kind (resnet8) were trained on digits, at alpha = -1, 0, 1" in text
    assert "2 random seeds each" in text
    assert "12 images that training had not seen: clean, under 1 corruption at 2" in text
    assert "Training that discourages selectivity (alpha = -1) leaves accuracy under" in text
    verdicts = json.loads((site / "downloads/claims.json").read_text())[0]["verdicts"]
    for verdict, count in Counter(each["verdict"] for each in verdicts).items():
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


def test_every_network_has_a_page_that_tables_lead_to(site):
    paths = [f"network-alpha={alpha}.html" for alpha in ("-1", "0", "1")]
    assert sorted(path.name for path in site.glob("network-*")) == sorted(paths)
    tables = ("index", "leaderboard", "attacks", "provenance", "network-alpha=0")
    for name in tables:
        led = {a["href"] for a in read(site / f"{name}.html").every("a")}
        assert set(paths) - led <= ({paths[1]} if name == "index" else set()), name
    text = read(site / paths[0]).text
    assert "2 resnet8 networks, trained on digits. Tested on 12 images." in text
    assert "30.5 % attacked, linf 8/255" in text  # the mean of 30 and 31
    assert re.search(r"corruption ?1 ?2 ?mean ?fog ?60.5 ?60.5 ?60.5", text)
    assert re.search(r"clean % ?80.5 ± 6.4 ?accuracy on the test images as they are", text)
    assert re.search(r"0 ?80.0 ?60.0 ?30.0 ?no ?walpha=-1 seed=0 ?1 ?81.0 ?61.0 ?31.0 ?no", text)


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
    rows = pd.read_parquet(site / "downloads/measurements.parquet")
    assert [*rows][:3] == ["suite", "condition", "level"]
    assert set(rows["limit"]) == {12}


def test_the_package_of_templates_is_complete():
    from selbench import report
    from selbench.report.site import PAGES

    templates = Path(report.__file__).parent / "templates"
    others = {"brought.html", "layout.html", "network.html", "parts.html", "studies.html"}
    named = {page.template for page in PAGES} | others
    assert {path.name for path in templates.iterdir()} == named


def test_a_bundle_becomes_a_plain_script():
    from selbench.report.assets import classic

    made = classic("var a=1;export{a as A,b as default};\n/* licences */")
    assert made == "var selbenchTables=(()=>{var a=1;\nreturn{A:a,default:b};})();\n/* licences */"


# In a browser, from disk.

PAGES = ("index", "leaderboard", "corruptions", "attacks", "mechanism", "claims", "images")
NETWORK = "network-alpha=-1"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def tab(browser):
    """Open one tab for all: each more is a process. Return it, its complaints, and what it asks."""
    page, complaints, asked = browser.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    page.on("request", lambda request: asked.append(request.url))
    yield page, complaints, asked
    page.close()


@pytest.fixture
def visit(tab, site):
    """Return a function that opens a page, and fails where that page complains or asks outside."""
    page, complaints, asked = tab

    def visit(name, size=DESKTOP, scheme="light"):
        page.goto("about:blank")
        page.emulate_media(color_scheme=scheme)
        complaints.clear()
        asked.clear()
        page.set_viewport_size(size)
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        assert complaints == []
        assert asked
        assert all(url.startswith(("file:", "data:")) for url in asked)
        return page

    return visit


@pytest.mark.parametrize("name", [*PAGES, "provenance", NETWORK])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_load_whole_and_fit(name, size, visit):
    page = visit(name, size)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    # not wait_for_function, which the page's policy forbids where it has to look twice
    page.evaluate("Promise.all([...document.images].map(i => i.decode().catch(() => null)))")
    broken = "[...document.images].filter(i => !i.naturalWidth || !i.alt).map(i => i.src)"
    assert page.evaluate(broken) == []
    assert page.evaluate("getComputedStyle(document.querySelector('header')).position") == "sticky"


@pytest.mark.parametrize(
    "names", [(*PAGES[:2], NETWORK), (*PAGES[2:], "calibration", "provenance")]
)
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.sample
def test_axe_finds_nothing(names, scheme, size, visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for name in names:
        page = visit(name, size, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        found = axe.run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["target"]) for each in found] == [], name


@pytest.mark.parametrize("name", ["leaderboard", NETWORK, "index"])
@pytest.mark.sample
def test_a_dark_page_prints_light_and_fits_the_paper(name, visit):
    page = visit(name, {"width": 718, "height": 1020}, "dark")  # A4 with Chromium's margins
    light, colour = "rgb(255, 255, 255)", "e => getComputedStyle(e).backgroundColor"
    assert page.locator("header").evaluate(colour) != light
    page.emulate_media(media="print")
    assert [page.locator(each).evaluate(colour) for each in ("header", "body")] == [light] * 2
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    page.emulate_media(media="screen")


def test_the_tab_of_the_page_is_in_sight_on_a_phone(visit):
    page = visit("provenance", PHONE)
    place = page.locator("nav [aria-current]").bounding_box()
    assert place["x"] >= 0
    assert place["x"] + place["width"] <= PHONE["width"]


def heads(page):
    return page.locator("table.sortable thead th")


def test_columns_can_be_chosen(visit):
    page = visit("leaderboard")
    assert not heads(page).filter(has_text="weather %").is_visible()
    page.get_by_text("Choose columns").click()
    page.get_by_role("checkbox", name="weather %").check()
    assert heads(page).filter(has_text="weather %").is_visible()
    page.get_by_role("checkbox", name="clean %").uncheck()
    assert not heads(page).filter(has_text="clean %").is_visible()


def test_without_scripts_there_are_the_usual_columns(browser, site):
    page = browser.new_page(java_script_enabled=False)
    page.goto((site / "leaderboard.html").as_uri())
    assert heads(page).filter(has_text="PGD Linf %").is_visible()
    assert not heads(page).filter(has_text="weather %").is_visible()
    page.close()


def first_column(page, column=1):
    return page.eval_on_selector_all(
        f"table tbody tr > :nth-child({column})", "cells => cells.map(c => c.innerText.trim())"
    )


def test_a_click_on_a_heading_sorts(visit):
    page = visit("leaderboard")
    assert first_column(page) == ["-1", "0", "1"]
    heading = page.locator("table thead th", has_text="clean %").first
    column = 1 + page.locator("table thead th").all_inner_texts().index("clean %")
    for word, sign in (("ascending", 1), ("descending", -1)):
        heading.click()
        page.locator(f"th[aria-sort={word}]", has_text="clean %").wait_for()
        numbers = [float(cell.split()[0]) for cell in first_column(page, column)]
        assert numbers == sorted(numbers, key=lambda number: sign * number)
    first = page.locator("table thead th").first
    first.click()
    page.locator("th[aria-sort=ascending]", has_text="alpha").wait_for()
    first.click()
    page.locator("th[aria-sort=descending]", has_text="alpha").wait_for()
    assert first_column(page) == ["1", "0", "-1"]


def test_the_filter_filters(visit):
    page = visit("claims")
    everything = first_column(page)
    assert len(everything) > 20
    page.get_by_label("Filter claims").fill("AutoAttack")
    assert first_column(page) == ["C3"]
    page.get_by_label("Filter claims").fill("")
    assert first_column(page) == everything


def test_a_phone_gets_figures_of_its_width(visit):
    for size, file in ((PHONE, "attacks-narrow.svg"), (DESKTOP, "attacks.svg")):
        image = visit("attacks", size).locator("#attacks img")
        assert image.evaluate("image => image.currentSrc").endswith(f"/{file}")


def test_a_policy_stops_what_a_page_would_fetch(visit):
    page = visit("index")
    blocked = """async () => {
        const image = new Image();
        const answer = new Promise(done => {
            document.addEventListener(
                'securitypolicyviolation', event => done(event.effectiveDirective));
            image.onerror = () => setTimeout(() => done('asked'), 500);
        });
        image.src = 'http://127.0.0.1:9/x.png';
        return await answer;
    }"""
    assert page.evaluate(blocked) == "img-src"
