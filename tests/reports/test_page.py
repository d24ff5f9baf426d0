"""The page: it needs nothing else, and no word becomes HTML; `test_pages` opens it."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from ner_lightning.reports.charts import Chart, ticks

from .made import page_of, predictions

NASTY = ["</script><script>alert(1)</script>", "<!--", "&amp;", "]]>", "\u2028", "'\"", "<img src=x onerror=alert(1)>"]


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
