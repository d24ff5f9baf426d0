"""A trained model to try out in a browser: `python -m ner_lightning demo`."""

from __future__ import annotations

import sys
from pathlib import Path

from ner_lightning.errors import InputError
from ner_lightning.predict.serve import listening, url_of
from ner_lightning.predict.tagger import Tagger


def demo(
    *,
    model: str = "runs",
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Show a page that finds entities in texts and files, until it is stopped.

    Args:
        model: Folder of runs (its newest), of a run (its best checkpoint), a checkpoint, an exported folder, or a
            Hub id.
        host: Address to listen at; by default that of this machine alone.
        port: Port to listen at; 0 takes a free one.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        revision: Branch, tag or commit of a model on the Hub.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: There is no such model, or the address cannot be listened at.
    """
    try:
        from ner_lightning.predict.page import launch
    except ModuleNotFoundError as error:
        raise InputError('demo needs gradio: pip install "ner-lightning[demo]"') from error
    with listening(host, port) as place:  # before the model is loaded, which takes a while
        tagger = Tagger.load(model, device=device, revision=revision, trust_remote_code=trust_remote_code)
        url, (address, number) = url_of(place), place.getsockname()[:2]
    print(f"showing {model} at {url}", file=sys.stderr)
    name = Path(model).resolve().name if Path(model).exists() else model  # not where it is on this machine
    launch(tagger, title=name, host=address, port=number)
