"""Upper case for encoders that read lower case only: a signal that lives in the tokenizer and the embedding table.

Each piece of an uncased vocabulary (`london`) gets two more spellings (`London`, `LONDON`), and the tokenizer no longer
lower-cases. The embedding of a new spelling begins as that of the old one plus a small vector of its shape, the same
for all pieces: what training learns of it holds for pieces that it never saw. Nothing else changes, so that an exported
folder is an ordinary model with an ordinary tokenizer.

What people type has less upper case than newspapers: some windows are read in lower case while training, which helps
there and costs little elsewhere (Mayhew, Tsygankova and Roth, "ner and pos when nothing is capitalized", EMNLP 2019).
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from ner_lightning.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# of the vector of a shape, to the standard deviation of the table: chosen on validation
_SCALE = 0.5


class Spelling(NamedTuple):
    """A piece with upper case, and the id of the piece that it is a spelling of."""

    piece: str
    of: int
    capitals: bool  # LONDON, not London


def spellings(tokenizer: PreTrainedTokenizerFast) -> list[Spelling]:
    """The new pieces, in the order of their ids, which follow those of the vocabulary.

    Args:
        tokenizer: One that lower-cases, of BERT's kind.

    Raises:
        InputError: It is of another kind, does not lower-case, or has tokens beside its vocabulary.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    normalizer = state["normalizer"] or {}
    if state["model"]["type"] != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        raise InputError("--model.keep_case: the tokenizer is not of BERT's kind (WordPiece); leave it out")
    if not normalizer["lowercase"]:
        raise InputError("--model.keep_case: the tokenizer keeps upper case already; leave it out")
    vocabulary: dict[str, int] = state["model"]["vocab"]
    if added := [token["content"] for token in state["added_tokens"] if token["id"] >= len(vocabulary)]:
        raise InputError(
            f"--model.keep_case: tokens were added to the vocabulary ({', '.join(added[:3])}), whose ids the spellings "
            "would take; leave it out"
        )
    prefix: str = state["model"]["continuing_subword_prefix"]
    fixed = {token["content"] for token in state["added_tokens"]}
    found: dict[str, Spelling] = {}
    for capitals in (False, True):
        for piece, number in sorted(vocabulary.items(), key=lambda item: item[1]):
            start = prefix if piece.startswith(prefix) else ""
            letters = piece.removeprefix(start)
            spelled = start + (letters.upper() if capitals else letters[:1].upper() + letters[1:])
            # in some scripts upper case has another number of letters, and lower-casing would not lead back
            if piece not in fixed and spelled not in vocabulary and spelled.lower() == piece:
                found.setdefault(spelled, Spelling(spelled, number, capitals))
    return list(found.values())


def keep_case(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer without lower-casing, and with the spellings of its pieces.

    Args:
        tokenizer: One that lower-cases, of BERT's kind.

    Raises:
        InputError: It is of another kind, or does not lower-case.
    """
    from transformers import AutoTokenizer

    new = spellings(tokenizer)
    with TemporaryDirectory() as folder:  # what AutoTokenizer makes of files is what users of the exported ones get
        tokenizer.save_pretrained(folder)
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        vocabulary = state["model"]["vocab"]
        vocabulary.update({spelling.piece: len(vocabulary) + number for number, spelling in enumerate(new)})
        # accents go with lower-casing unless it is said
        accents = state["normalizer"]["strip_accents"]
        state["normalizer"].update(lowercase=False, strip_accents=True if accents is None else accents)
        Path(folder, "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
        path = Path(folder, "tokenizer_config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
        config.update(do_lower_case=False, strip_accents=state["normalizer"]["strip_accents"])
        path.write_text(json.dumps(config), encoding="utf-8")
        cased: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    cased.name_or_path = tokenizer.name_or_path
    return cased


def add_spellings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Give the embedding table of a model a row for each spelling.

    Args:
        model: Changed in place.
        tokenizer: Its own, which lower-cases.
    """
    import torch

    new = spellings(tokenizer)
    first = tokenizer.vocab_size
    table = model.get_input_embeddings().weight.detach()
    generator = torch.Generator().manual_seed(0)  # the same vectors whatever was drawn before
    shapes = torch.randn(2, table.shape[1], generator=generator) * table.std() * _SCALE
    rows = table[[spelling.of for spelling in new]] + shapes[[int(spelling.capitals) for spelling in new]]
    model.resize_token_embeddings(first + len(new), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[first:] = rows


def lower_case_ids(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """The id of each piece in lower case, (pieces,): its own where there is nothing to lower.

    Args:
        tokenizer: One with `keep_case`.

    Raises:
        InputError: Lower case is not spelled with the same pieces in lower case, or there is no upper case.
    """
    import torch

    vocabulary: dict[str, int] = tokenizer.get_vocab()
    fixed = set(tokenizer.all_special_tokens)
    ids = torch.arange(max(vocabulary.values()) + 1)
    upper = [piece for piece in vocabulary if piece not in fixed and piece != piece.lower()]
    if not upper or any(piece.lower() not in vocabulary for piece in upper):
        raise InputError(
            "--model.lowercase_ratio is for --model.keep_case=true, or a model trained with it; leave it out"
        )
    for piece in upper:
        ids[vocabulary[piece]] = vocabulary[piece.lower()]
    return ids
