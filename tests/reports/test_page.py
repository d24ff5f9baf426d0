"""The page: it needs nothing else, no word becomes HTML, and in a browser its filters work."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ner_lightning.reports.charts import Chart, ticks
from ner_lightning.reports.page import MARK, render
from ner_lightning.reports.report import numbers_of

from .made import predictions, random_tags

CHROMIUM = Path("/usr/bin/chromium")
NASTY = ["</script><script>alert(1)</script>", "<!--", "&amp;", "]]>", "\u2028", "'\"", "<img src=x onerror=alert(1)>"]


def page_of(split, other=None, **more):
    about = {"made_by": MARK, "run": "runs/<b>0</b>", "checkpoint": "best.ckpt", "against": "runs/1" if other else None}
    return render(about | numbers_of(split, other, against="runs/1", **more))


@pytest.fixture(scope="module")
def page():
    """Ten wrong sentences of nasty words, with a type that is no better."""
    tags = [["O", "B-<i>T</i>", "O", "B-PER", "O", "O", "O"]] * 10
    return page_of(predictions(tags, [["O"] * 7] * 10, words=[NASTY] * 10, probabilities=None))


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.scripts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] == "script":
            self.scripts.append(data)


def test_no_word_and_no_name_becomes_html(page):
    elements = Elements(page)
    names = [tag for tag, _ in elements.found]
    assert names.count("script") == 2
    assert not {"img", "i", "b"} & set(names)
    data = json.loads(elements.scripts[0])
    assert data["errors"][0]["words"] == NASTY
    assert len(data["errors"]) == 10
    assert "runs/&lt;b&gt;0&lt;/b&gt;" in page


def test_it_needs_no_other_file(page):
    for tag, attributes in Elements(page).found:
        assert tag not in ("link", "img", "iframe", "base")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|url\(|fetch\(|innerHTML", page)


def test_links_lead_to_sections(page):
    elements = Elements(page).found
    targets = {attributes["href"][1:] for _, attributes in elements if "href" in attributes}
    assert targets <= {attributes.get("id") for _, attributes in elements}


def test_charts_are_well_formed_and_in_their_frame():
    chart = Chart("loss", 'a "<title>"', "step", "loss", {"a & b": [(0, 2.0), (5, 1.0), (10, 0.5)]})
    root = ElementTree.fromstring(str(chart.svg()))
    assert root.attrib["aria-label"] == 'a "<title>"'
    (line,) = root.findall("polyline")
    assert line.find("title").text == "a & b"
    places = [tuple(map(float, place.split(","))) for place in line.attrib["points"].split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # falling, and SVG counts downwards
    assert all(0 < x < 480 and 0 < y < 300 for x, y in places)


@pytest.mark.parametrize("line", [[(3, 0.5)], [(0, 0.0), (0, 0.0)], [(1, 1.0), (2, 1.0)]])
def test_a_chart_of_one_value(line):
    ElementTree.fromstring(str(Chart("x", "x", "x", "y", {"a": line}, share=True).svg()))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.89, 0.97, [0.9, 0.92, 0.94, 0.96]), (49, 5249, [2000, 4000])],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no chromium here")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.slow
def test_in_a_browser(browser, page, tmp_path):
    generator = np.random.default_rng(0)
    gold, predicted, former = (random_tags(generator, 100) for _ in range(3))
    predicted[::3] = gold[::3]
    split, other = (predictions(gold, each) for each in (predicted, former))
    (tmp_path / "page.html").write_text(page_of(split, other))
    (tmp_path / "nasty.html").write_text(page)
    errors, asked = [], []
    opened = browser.new_page(viewport={"width": 390, "height": 800})
    opened.on("console", lambda message: errors.append(message.text))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((tmp_path / "nasty.html").as_uri())
    assert opened.locator("#errors article").count() == 10
    words = opened.locator("#errors article .row").first.inner_text()
    assert all(word in words for word in NASTY if word != "\u2028")

    opened.goto((tmp_path / "page.html").as_uri())
    section = opened.locator("#errors")
    told, rows = section.locator("output"), section.locator("article")
    every = len(numbers_of(split, other)["errors"])
    assert told.inner_text() == f"1 to 20 of {every} sentences"
    # no sideways scrolling but in tables
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # with the keyboard alone: to the next sentences, and a kind
    section.get_by_role("button", name="next").focus()
    opened.keyboard.press("Enter")
    assert told.inner_text() == f"21 to 40 of {every} sentences"
    section.get_by_label("kind").focus()
    opened.keyboard.type("mis")
    assert section.get_by_label("kind").input_value() == "missed"
    assert told.inner_text().startswith("1 to 20 of ")
    assert all("missed" in text for text in rows.all_inner_texts())
    section.get_by_label("type").select_option("LOC")
    assert all(re.search(r"LOC · missed", text) for text in rows.all_inner_texts())
    section.get_by_label("type").select_option("")
    section.get_by_label("kind").select_option("")
    section.get_by_label("change").select_option("mended")
    assert 0 < rows.count() <= 20
    assert all("mended" in text for text in rows.all_inner_texts())
    section.get_by_label("change").select_option("")
    section.get_by_label("text").fill("W25")  # of one sentence, and of w250 to w259
    assert all("w25" in text for text in rows.all_inner_texts())
    section.get_by_label("text").fill("nowhere")
    assert told.inner_text() == "no sentence"
    assert errors == []
    assert all(url.startswith("file:") for url in asked)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser, scheme, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    generator = np.random.default_rng(0)
    gold, predicted = (random_tags(generator, 30) for _ in range(2))
    (tmp_path / "page.html").write_text(page_of(predictions(gold, predicted)))
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    opened = context.new_page()
    opened.goto((tmp_path / "page.html").as_uri())
    assert [violation["id"] for violation in axe.run(opened).response["violations"]] == []
