"""What people look at, in a browser: nothing wrong in the console, nothing from elsewhere, for keyboards and all eyes.

With PAGES_SCREENSHOTS=FOLDER each page is left there as a picture, at the width of a phone and of a screen.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from reports.made import page_of, predictions, random_tags

from ner_lightning import EntityScore, Tagger, TokenClassificationDataModule, TokenClassificationModule
from ner_lightning.pretrained import load_tokenizer
from ner_lightning.reports.report import numbers_of

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`").Axe()
VIEWS = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
NASTY = ["</script><script>alert(1)</script>", "<!--", "&amp;", "]]>", "\u2028", "'\"", "<img src=x onerror=alert(1)>"]
LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
FOCUSED = "(e => e.id || e.getAttribute('aria-label') || e.innerText || e.tagName)(document.activeElement)"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
        found = own if Path(own).exists() else shutil.which("chromium") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("there is no browser here: python -m playwright install chromium")
        chromium = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, request):
    """Open an address, and see to it that nothing is wrong at the end."""

    @contextmanager
    def opened(url, *, width=1280, scheme="light"):
        # axe is a script of this page, which a page may forbid
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce"
        )
        page, wrong, hosts = context.new_page(), [], set()
        page.on("console", lambda told: wrong.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
        page.goto(url)
        yield page
        if folder := os.environ.get("PAGES_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{request.node.name}.png", full_page=True)
        # no sideways scrolling but in tables
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert wrong == []
        assert hosts <= {None, "127.0.0.1"}
        context.close()

    return opened


def violations(page, *, but=()):
    """What axe finds: rule, place and reason."""
    found = axe.run(page).response["violations"]
    nodes = ((each["id"], node["html"][:200], node["failureSummary"]) for each in found for node in each["nodes"])
    return [node for node in nodes if node[0] not in but]


def by_keyboard(page, times):
    """What the tabulator key leads to."""
    reached = []
    for _ in range(times):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    return reached


@pytest.fixture(scope="module")
def split():
    """Predictions of a run, and those of another one."""
    generator = np.random.default_rng(0)
    gold, predicted, former = (random_tags(generator, 100) for _ in range(3))
    predicted[::3] = gold[::3]
    return [predictions(gold, each) for each in (predicted, former)]


@pytest.mark.parametrize(
    ("against", "width", "scheme"),
    [*((False, *each) for each in VIEWS), (True, 390, "dark"), (True, 1280, "light")],
)
def test_the_report(opened, split, tmp_path, against, width, scheme):
    path = tmp_path / "page.html"
    path.write_text(page_of(split[0], split[1] if against else None))
    with opened(path.as_uri(), width=width, scheme=scheme) as page:
        assert violations(page) == []
        reached = by_keyboard(page, 40)
        filters = ["type", "kind", *(["change"] if against else []), "text"]
        first = reached.index("errors-type")
        assert reached[first : first + len(filters) + 1] == [*(f"errors-{name}" for name in filters), "next"]
        assert "suspects-text" in reached


def test_the_list_of_a_report(opened, split, tmp_path):
    tags = [["O", "B-<i>T</i>", "O", "B-PER", "O", "O", "O"]] * 10
    (tmp_path / "nasty.html").write_text(page_of(predictions(tags, [["O"] * 7] * 10, words=[NASTY] * 10)))
    with opened((tmp_path / "nasty.html").as_uri(), width=390) as page:
        assert page.locator("#errors article").count() == 10
        words = page.locator("#errors article .row").first.inner_text()
        assert all(word in words for word in NASTY if word != "\u2028")

    (tmp_path / "page.html").write_text(page_of(*split))
    with opened((tmp_path / "page.html").as_uri(), width=390) as page:
        section = page.locator("#errors")
        told, rows = section.locator("output"), section.locator("article")
        every = len(numbers_of(*split)["errors"])
        assert told.inner_text() == f"1 to 20 of {every} sentences"
        # with the keyboard alone: to the next sentences, and a kind
        section.get_by_role("button", name="next").focus()
        page.keyboard.press("Enter")
        assert told.inner_text() == f"21 to 40 of {every} sentences"
        section.get_by_label("kind").focus()
        page.keyboard.type("mis")
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


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """The folder of a model that answers with many labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TokenClassificationModule(str(tiny_model), labels=LABELS).model
        torch.nn.init.normal_(model.classifier.weight, std=5)
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    load_tokenizer(str(tiny_model)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_what_a_notebook_shows(opened, trained, conll_files, tmp_path, scheme, width):
    tagger = Tagger.load(trained, device="cpu")
    corpus = TokenClassificationDataModule(train_file=str(conll_files / "train.conll"), model_name_or_path=str(trained))
    score = EntityScore(LABELS, interval=True)
    ids = torch.arange(6)
    score.update(predictions=ids, targets=ids % 4, word_index=ids, sentence_index=ids // 2, num_words=6)
    texts = ["Mira Toll left Quill Works in Arvenholm.", "<b>Lake</b> Sorn froze."]
    shown = [corpus.describe(), score.compute(), tagger(texts[0]), tagger.tags(texts[0]), tagger(texts)]
    cells = "".join(f'<section tabindex="0">{each._repr_html_()}</section>' for each in shown)
    style = ":root { color-scheme: light dark } section { overflow-x: auto }"
    path = tmp_path / "notebook.html"
    head = f'<meta name="viewport" content="width=device-width"><title>notebook</title><style>{style}</style>'
    path.write_text(f'<html lang="en"><head>{head}</head><body><main><h1>Cells</h1>{cells}</main></body></html>')
    with opened(path.as_uri(), width=width, scheme=scheme) as page:
        assert page.locator("mark").count() > 5
        assert violations(page) == []


@pytest.fixture(scope="module")
def demo(trained):
    """The address of a demo."""
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    command = [sys.executable, "-m", "ner_lightning", "demo", f"--model={trained}", "--port=0", "--device=cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = next(line.split()[-1] for line in process.stderr if line.startswith("showing "))
        ends = time.monotonic() + 60
        while not answers(url):
            assert time.monotonic() < ends
            time.sleep(0.1)
        yield url
        process.kill()


def answers(url):
    with suppress(OSError), urlopen(url):
        return True
    return False


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_demo(opened, demo, width, scheme):
    with opened(demo, width=width, scheme=scheme) as page:
        page.get_by_label("Text").fill("Mira Toll left <b>Quill Works</b>.")
        page.keyboard.press("Shift+Enter")
        page.locator("mark").first.wait_for()
        assert page.locator("mark b").count() == 0
        reached = by_keyboard(page, 8)
        assert {"Find entities", "Label a file (its first 200 rows)"} <= set(reached)
        assert violations(page) == []
