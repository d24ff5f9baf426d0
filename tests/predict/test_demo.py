"""The page of `demo`: what it shows is what the Tagger finds, escaped, and nothing is loaded from elsewhere."""

import gc
import json
import re
import sys
import urllib.request

import pytest

from ner_lightning.__main__ import main
from ner_lightning.errors import InputError
from ner_lightning.predict.demo import demo

TEXT = "Mira Toll <b>left</b> Quill Works."


def unmarked(html):
    return re.sub(r"<[^>]*>", "", re.sub(r" <small.*?</small>", "", html))


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "ner_lightning.predict.page", raising=False)
    with pytest.raises(InputError, match=r'demo needs gradio: pip install "ner-lightning\[demo\]"'):
        demo(model="none")


@pytest.fixture
def page(tagger):
    """Make a page; gives it with its functions by their names."""
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    from ner_lightning.predict.page import make_page

    def make(**options):
        blocks = make_page(tagger(**options), title="<i>tiny</i>", examples=["One text."])
        return blocks, {each.fn.__name__: each.fn for each in blocks.fns.values() if each.fn}

    return make


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of gradio's own
def test_the_page_shows_what_the_tagger_finds(page, tagger, tmp_path):
    import gradio

    _, functions = page()
    found = functions["of_text"](TEXT)
    html, code = functions["show"](found, 0.0)
    assert json.loads(code) == [{"text": TEXT, "entities": tagger()(TEXT)}] == found
    assert unmarked(html) == "Mira Toll &lt;b&gt;left&lt;/b&gt; Quill Works."
    kept = json.loads(functions["show"](found, 0.5)[1])[0]["entities"]
    assert 0 < len(kept) < len(found[0]["entities"])
    assert kept == tagger(min_score=0.5)(TEXT)

    path = tmp_path / "notes.jsonl"
    path.write_text('{"tokens": ["Mira", "Toll"]}\n{"tokens": ["Lake", "Sorn", "froze"]}\n' * 150)
    found = functions["of_file"](str(path))
    assert len(found) == 200
    assert [row["text"] for row in found[:2]] == ["Mira Toll", "Lake Sorn froze"]
    path.write_text('{"tokens": ["Mira", "Toll"]}\n<b>\n')
    with pytest.raises(gradio.Error, match=r"notes\.jsonl:2: .*&lt;b&gt;"):
        functions["of_file"](str(path))
    with pytest.raises(gradio.Error, match="100,001 characters"):
        functions["of_text"]("a" * 100_001)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_page_loads_nothing_from_elsewhere(runs, tmp_path, monkeypatch, capsys):
    gradio = pytest.importorskip("gradio", reason="needs the extra `demo`")
    seen = {}

    def opened(self):  # in place of waiting
        for name in ("", "theme.css"):
            with urllib.request.urlopen(self.local_url + name) as answer:
                seen[name] = answer.read().decode()
        seen["share"], seen["url"] = self.share_url, self.local_url
        self.close()

    monkeypatch.setattr(gradio.Blocks, "block_thread", opened)
    assert main(["demo", f"--model={runs / 'version_0'}", "--port=0", "--device=cpu"]) == 0
    assert capsys.readouterr().err == f"showing {runs / 'version_0'} at {seen['url'].rstrip('/')}\n"
    assert "http" not in seen["theme.css"].replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', seen[""])
    assert '"stylesheets":[]' in seen[""].replace(" ", "")
    assert str(runs) not in seen[""]
    assert seen["share"] is None
    gc.collect()  # the loop of gradio's server, which it does not close
