"""The files of a Hugging Face Space that shows the page of `demo` for a model, which it holds or loads from the Hub."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from pprint import pformat
from typing import Any

import ner_lightning
from ner_lightning.files import naming
from ner_lightning.hub.card import EXAMPLES
from ner_lightning.hub.outbox import About

SDK_VERSION = "6.31.0"  # of Gradio: the oldest of the extra `demo`
_PAGE = '''\
"""A page on which people try a model: `hf upload you/NAME . --repo-type=space` in this folder makes the Space."""

from pathlib import Path

from ner_lightning import Tagger
from ner_lightning.predict.page import launch

EXAMPLES = {examples}

launch(Tagger.load({model}), title={title!r}, examples=EXAMPLES)
'''


def write_space(
    folder: Path, *, write: Callable[[Path], None] | None, title: str, about: About, extras: tuple[str, ...] = ()
) -> None:
    """Write a Space into an empty folder.

    Args:
        folder: The folder.
        write: Writes the model, into `model`; None for that of `about.repo_id`.
        title: Of the page.
        about: The id of the model, and what its author knows of it.
        extras: Of this package that the model needs.
    """
    from huggingface_hub.repocard_data import CardData

    if write is not None:
        (folder / "model").mkdir()
        write(folder / "model")
    known: dict[str, Any] = {
        "title": title,
        "sdk": "gradio",
        "sdk_version": SDK_VERSION,
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
        "license": about.license,
        "models": [about.repo_id] if write is None else None,
    }
    model = repr(about.repo_id) if write is None else 'Path(__file__).with_name("model")'
    needed = ",".join(("demo", *extras))
    examples = pformat(list(about.widget_examples or EXAMPLES), width=110)
    texts = {
        "app.py": _PAGE.format(model=model, title=title, examples=examples),
        "requirements.txt": f"ner-lightning[{needed}]=={ner_lightning.__version__}\n",
        "README.md": f"---\n{CardData(**known).to_yaml()}\n---\n",
    }
    for name, text in texts.items():
        with naming(folder / name):
            (folder / name).write_text(text, encoding="utf-8")
