"""The report in a browser, from disk."""

import pytest

PAGES = ("index", "leaderboard", "corruptions", "attacks", "mechanism", "claims", "images")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@pytest.fixture
def visit(browser, site):
    """Return a function that opens a page, and fails where that page complains or asks outside."""
    opened = []

    def visit(name, size=DESKTOP):
        page = browser.new_page(viewport=size)
        opened.append(page)
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda problem: complaints.append(str(problem)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        assert complaints == []
        assert asked
        assert all(url.startswith(("file:", "data:")) for url in asked)
        return page

    yield visit
    for page in opened:
        page.close()


@pytest.mark.parametrize("name", [*PAGES, "provenance"])
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
    phone, desktop = (visit("attacks", size) for size in (PHONE, DESKTOP))
    shown = "document.querySelector('#attacks img').currentSrc"
    assert phone.evaluate(shown).endswith("attacks-narrow.svg")
    assert desktop.evaluate(shown).endswith("attacks.svg")


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
