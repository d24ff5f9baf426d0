"""The page of `demo` and of an exported Space, made with Gradio: a text or a file in, its entities out.

It works with any `Tagger`, loads nothing from elsewhere, and reads no file but those that are uploaded to it.
"""

from __future__ import annotations

import json
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr

from ner_lightning.errors import InputError
from ner_lightning.predict.entities import text_of
from ner_lightning.predict.markup import marked
from ner_lightning.predict.tagger import Tagger, rows_of
from ner_lightning.readers import ReadOptions, Row, read

_CHARS, _ROWS = 100_000, 200  # of a text, and of a file: `predict` labels whole ones
_BYTES = 5_000_000  # of a file
_FONTS = ("system-ui", "sans-serif")
Found = list[dict[str, Any]]  # a text a row, and its entities, of any score


def launch(
    tagger: Tagger, *, title: str, examples: list[str] | None = None, host: str | None = None, port: int | None = None
) -> None:
    """Show the page until it is stopped.

    Args:
        tagger: What labels.
        title: Above the page.
        examples: Texts to begin with.
        host: Address to listen at; by default that of this machine alone, in a Space that of the Space.
        port: Port to listen at; by default the first free one from 7860.
    """
    theme = gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=("ui-monospace", "monospace"))
    theme.set(button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700")
    make_page(tagger, title=title, examples=examples or []).launch(
        server_name=host,
        server_port=port,
        max_file_size=_BYTES,
        theme=theme,
        footer_links=[],
        share=False,
        ssr_mode=False,
        quiet=True,
        state_session_capacity=1000,
    )


def make_page(tagger: Tagger, *, title: str, examples: list[str]) -> gr.Blocks:
    """Make the page.

    Args:
        tagger: What labels.
        title: Above the page.
        examples: Texts to begin with.
    """

    def of_text(text: str) -> Found:
        if len(text) > _CHARS:
            raise gr.Error(
                f"{len(text):,} characters: give at most {_CHARS:,}, or a file to predict",
                duration=None,
                print_exception=False,
            )
        return label(rows_of(text))

    def of_file(path: str) -> Found:
        try:
            return label(list(islice(read(path, options=ReadOptions(tags=False), name=Path(path).name), _ROWS)))
        except (InputError, OSError) as error:
            raise gr.Error(escape(str(error)), duration=None, print_exception=False) from error

    def label(rows: list[Row]) -> Found:
        return [
            {"text": text_of(each.row)[0], "entities": tagger.entities.in_text(each)}
            for each in tagger.label(rows, of_one_file=False)
        ]

    def show(found: Found, least: float) -> tuple[str, str]:
        kept = [row | {"entities": [one for one in row["entities"] if one["score"] >= least]} for row in found]
        html = "".join(marked(row["text"], row["entities"], tagger.entities.types) for row in kept)
        return html, json.dumps(kept, indent=2, ensure_ascii=False)

    # what was uploaded goes after an hour, and with the page
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# {escape(title)}")
        found = gr.State([])
        text = gr.Textbox(examples[0] if examples else "", label="Text", lines=4, max_lines=20)
        with gr.Row():
            find = gr.Button("Find entities", variant="primary")
            file = gr.UploadButton(f"Label a file (its first {_ROWS} rows)")
        if len(examples) > 1:
            gr.Examples(examples, text, cache_examples=False)
        least = gr.Slider(0, 1, 0, step=0.01, label="Least score of an entity")
        html = gr.HTML(container=True, padding=True, min_height=60)
        code = gr.Textbox(label="As JSON", interactive=False, lines=5, max_lines=20, buttons=["copy"])
        private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "tagger"}  # one at a time
        for event, function, given in (
            (find.click, of_text, text),
            (text.submit, of_text, text),
            (file.upload, of_file, file),
        ):
            event(function, given, found, **private).success(show, [found, least], [html, code], **private)
        least.change(show, [found, least], [html, code], show_progress="hidden", **private)
    return page
