"""The embedded default: a sample corpus with a tokenizer and a BERT configuration, all of it text.

`tests/quickstart/make_corpus.py` wrote every file here.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
_NAME = "ner_lightning/quickstart"


def packaged(name: str) -> str:
    """Where a model or file of that name is found.

    Args:
        name: a model name or path as the user gave it; `ner_lightning/quickstart` is the folder shipped here
            (and `ner_lightning/quickstart/train.conll` a file in it), every other name stays as it is.
    """
    if name == _NAME or name.startswith(f"{_NAME}/"):
        return str(FOLDER / name.removeprefix(_NAME).lstrip("/"))
    return name
