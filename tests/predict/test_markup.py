"""What the Tagger returns are lists, and a notebook shows them as HTML in which words are escaped."""

import json
import pickle
import re

import pytest

from ner_lightning.predict import TaggedWord
from ner_lightning.predict.markup import marked

TEXT = "Mira Toll <b>left</b> Quill & Works."
WORDS = ["<i>", "Mira", "&", "Toll"]


def unmarked(html):
    return re.sub(r"<[^>]*>", "", re.sub(r" <small.*?</small>", "", html))


def marks(html):
    return re.findall(r"<mark [^>]*>(.*?) <small", html)


def test_marks_are_the_entities_and_what_is_no_mark_is_escaped():
    entities = [
        {"type": "A&B", "text": "Mira", "start": 0, "end": 4, "score": 0.987},
        {"type": "PER", "text": "<b>", "start": 10, "end": 13, "score": 1.0},
    ]
    html = marked("Mira Toll <b>left</b>", entities, ["A&B", "PER"])
    assert unmarked(html) == "Mira Toll &lt;b&gt;left&lt;/b&gt;"
    assert re.findall(r"<mark [^>]*>(.*?) <small [^>]*>(.*?)</small></mark>", html) == [
        ("Mira", "A&amp;B 0.99"),
        ("&lt;b&gt;", "PER 1.00"),
    ]
    first, second = re.findall(r"background: (#[0-9a-f]{6})", html)
    assert (first, second) == ("#afd7ff", "#d7d787")


@pytest.fixture(scope="module")
def results(tagger):
    own = tagger()
    return {
        "text": own(TEXT),
        "texts": own([TEXT, "", "Lake Sorn"]),
        "words": own([WORDS, []]),
        "tags": own.tags(TEXT),
        "several tags": own.tags([WORDS]),
    }


def test_results_are_lists_for_all_that_takes_lists(results):
    assert all(isinstance(each, list) for each in results.values())
    plain = {name: json.loads(json.dumps(each)) for name, each in results.items()}
    assert plain["text"] == results["text"] == results["texts"][0]
    assert results["words"] == plain["words"]
    assert [[list(word) for word in row] for row in results["several tags"]] == plain["several tags"]
    for name, each in results.items():
        again = pickle.loads(pickle.dumps(each))
        assert again == each
        assert again._repr_html_() == each._repr_html_()
        assert repr(each) == repr(list(each)), name
    assert isinstance(results["tags"][0], TaggedWord)


def test_a_notebook_shows_the_entities_in_their_text(results):
    html = results["text"]._repr_html_()
    assert unmarked(html) == "Mira Toll &lt;b&gt;left&lt;/b&gt; Quill &amp; Works."
    escaped = [one["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for one in results["text"]]
    assert marks(html) == escaped
    assert len(escaped) > 2
    html = results["words"]._repr_html_()
    assert unmarked(html) == "&lt;i&gt; Mira &amp; Toll"
    assert len(marks(html)) == len(results["words"][0])
    assert len(re.findall("<div", results["texts"]._repr_html_())) == 3


def test_a_notebook_shows_labels_as_a_table_and_only_the_first_of_many(results, tagger):
    html = results["several tags"]._repr_html_()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert cells[::3] == ["&lt;i&gt;", "Mira", "&amp;", "Toll"]
    assert cells[1::3] == [word.label for word in results["several tags"][0]]
    many = tagger()(["Mira left."] * 130)
    assert len(re.findall("<div", many._repr_html_())) == 100
    assert many._repr_html_().endswith("<p>and 30 inputs more</p>")
