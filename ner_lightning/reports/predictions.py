"""What a checkpoint predicts on a split of its data, in one pass, with the very loader and decoding of `test`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ner_lightning.calibration import find_entities
from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.corpus import Corpus, paths_of
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.metrics import EntityScore
from ner_lightning.model import TokenClassificationModule
from ner_lightning.options import recorded_data
from ner_lightning.readers import Row, read
from ner_lightning.scores import Counts, SplitScores, scores_of
from ner_lightning.tags import is_entity_scheme

if TYPE_CHECKING:
    from ner_lightning.encoding import Encoder

_SOURCES = ("dataset_name", "train_file", "validation_file", "test_file")


class Span(NamedTuple):
    """An entity of a split: its type and its words [start, end), by their number in the split.

    The score is the probability of its labels, 1 of a gold one. Labels that mark no entities make each word one.
    """

    type: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Predictions:
    """Words of a split with their true and predicted labels."""

    split: SplitScores  # its name, where it comes from, and the scores, as `test` has them
    labels: list[str]  # in the order of their ids
    words: list[str]
    pieces: NDArray[np.int64]  # sub-words of each word
    sentences: NDArray[np.int64]  # the number of the first word of each, and that behind the last word
    rows: list[Row]  # each sentence as it was read; empty where it comes from no file
    gold: NDArray[np.int64]  # label id of each word
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]  # of each label, with the temperature of the run, (words, labels)
    counts: Counts
    seen: dict[str, set[str]] | None  # the types of each entity of the training data, by its words; None without it

    @property
    def entities(self) -> bool:
        """Whether the labels mark entities, and not each word alone."""
        return is_entity_scheme(self.labels)

    @cached_property
    def places(self) -> list[str]:
        """File and line of each sentence; empty where none is known."""
        return [row.place for row in self.rows]

    @cached_property
    def sentence_of(self) -> list[int]:
        """The number of the sentence of each word."""
        numbers: list[int] = np.repeat(np.arange(len(self.sentences) - 1), np.diff(self.sentences)).tolist()
        return numbers

    def spans(self, which: Literal["gold", "predicted"]) -> list[Span]:
        """The true entities or the predicted ones, in their order."""
        ids = getattr(self, which)
        scores = np.ones(len(ids)) if which == "gold" else self.probabilities[np.arange(len(ids)), ids]
        return spans_of(ids, self.sentences, self.labels, scores)


def predictions_of(
    ckpt_path: Path,
    *,
    split: Literal["test", "validation"],
    file: str | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Predictions:
    """Label a split of the data that a checkpoint records.

    Args:
        ckpt_path: The checkpoint.
        split: Which split.
        file: Another file in place of the recorded one.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: The checkpoint records no data or no such split, its decoding is not known here, or the device
            cannot be used.
    """
    checkpoint = read_checkpoint(ckpt_path)
    if "decode" in checkpoint:
        raise InputError(
            f"{ckpt_path}: was scored with {checkpoint['decode']}, which is not known here: a report shows the "
            "decodings of this package (--model.decoding)"
        )
    data = _data(ckpt_path, checkpoint, split, file, trust_remote_code)
    if split not in data.corpus.splits:
        raise InputError(f"{ckpt_path} records no {split} data: give it as --file, or another --split")
    model = _model(checkpoint, trust_remote_code)
    try:
        model.to(torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device))
    except (RuntimeError, AssertionError) as error:  # of torch, about its build, this machine, or the name
        raise InputError(f"--device={device} cannot be used: {str(error).splitlines()[0]}") from error
    sentences, gold = _read(data.corpus, split)
    label_ids, logits, score = _run(model, data, split)
    logged = {"test": "test", "validation": "val"}[split]
    scores = {f"{logged}_{name}": value for name, value in score.compute().items()} if len(label_ids) else {}
    words = list(chain.from_iterable(sentences))
    temperature = model.calibration.temperature if model.calibration else 1.0
    return Predictions(
        split=scores_of(split, scores, dict(data.hparams), data.corpus.commit),
        labels=data.labels,
        words=words,
        pieces=_pieces(words, data.encoder),
        sentences=_borders(sentences),
        rows=_rows(data, split, len(sentences)),
        gold=gold,
        predicted=label_ids.numpy(),
        probabilities=(logits / temperature).softmax(-1).numpy(),
        counts=score.counts,
        seen=_seen(data.corpus) if "train" in data.corpus.splits else None,
    )


def spans_of(
    ids: NDArray[np.int64], borders: NDArray[np.int64], labels: Sequence[str], scores: NDArray[Any]
) -> list[Span]:
    """The entities of words, in their order.

    Args:
        ids: Label of each word.
        borders: The number of the first word of each sentence, and that behind the last word.
        labels: Label names in the order of their ids.
        scores: How probable the label of each word is.
    """
    sentence = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
    found = find_entities(torch.from_numpy(ids), torch.from_numpy(sentence), labels)
    product = found.scores(torch.from_numpy(np.asarray(scores, dtype=np.float64))).tolist()
    prefix = 2 if is_entity_scheme(labels) else 0
    rows = zip(found.label.tolist(), found.start.tolist(), found.end.tolist(), product, strict=True)
    return [
        Span(labels[label][prefix:], start, end, score) for label, start, end, score in rows if labels[label] != "O"
    ]


def _data(
    path: Path, checkpoint: dict[str, Any], split: str, file: str | None, trust_remote_code: bool
) -> TokenClassificationDataModule:
    options = recorded_data(checkpoint)
    if file is not None:  # then the others need not be here: a run may come from another machine
        others = (f"{other}_file" for other in ("train", "validation", "test") if other != split)
        options |= {name: None for name in others if not all(path.exists() for path in paths_of(options.get(name)))}
        options[f"{split}_file"] = file
        if options.get("train_file") is None:  # and a file replaces the dataset
            options |= {"annotated_types": None, "validation_split": None}
    if all(options.get(name) is None for name in _SOURCES):
        raise InputError(f"{path} does not record its data (rows in memory, or a datamodule of another kind)")
    return TokenClassificationDataModule(**options, trust_remote_code=trust_remote_code)


def _model(checkpoint: dict[str, Any], trust_remote_code: bool) -> TokenClassificationModule:
    recorded = checkpoint["hyper_parameters"]
    known = signature(TokenClassificationModule).parameters
    options = {name: value for name, value in recorded.items() if name in known}
    options |= {"pretrained": False, "trust_remote_code": trust_remote_code}
    model = TokenClassificationModule(**options)
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


@torch.inference_mode()
def _run(
    model: TokenClassificationModule, data: TokenClassificationDataModule, split: Literal["test", "validation"]
) -> tuple[torch.Tensor, torch.Tensor, EntityScore]:
    """Label and logits of each word, in their order, and the score that holds them."""
    score = model.test_score.cpu()
    score.calibration = model.calibration
    label_ids, logits = torch.zeros(0, dtype=torch.int64), torch.zeros(0, len(model.labels))
    sentence = label_ids
    for batch in tqdm(data.loader(split), desc=f"labelling {split}", leave=False, disable=None):
        batch = {n: v.to(model.device) if isinstance(v, torch.Tensor) else v for n, v in batch.items()}
        if not len(label_ids):
            label_ids = torch.zeros(batch["num_words"], dtype=torch.int64)
            logits, sentence = torch.zeros(len(label_ids), len(model.labels)), torch.zeros_like(label_ids)
        every = model(batch).logits
        named = {name: batch[name] for name in ("word_index", "sentence_index", "document_index", "labels")}
        named |= {"predicted": model.decode(batch, every), "logits": every.float()}
        word = {name: values[batch["word_index"] >= 0].cpu() for name, values in named.items()}
        place = word["word_index"]
        label_ids[place], logits[place], sentence[place] = word["predicted"], word["logits"], word["sentence_index"]
        score.update(
            place,
            word["predicted"],
            word["labels"],
            word["sentence_index"],
            num_words=batch["num_words"],
            document_index=word["document_index"],
            logits=word["logits"],
        )
    if model.grammar:
        label_ids = model.grammar.mend(label_ids, sentence)
    return label_ids, logits, score


def _read(corpus: Corpus, split: str) -> tuple[list[list[str]], NDArray[np.int64]]:
    """Words of each sentence, and the label id of each word."""
    columns = corpus.splits[split].data
    ids = chain.from_iterable(columns.column("tags").to_pylist())
    return columns.column("tokens").to_pylist(), np.fromiter(ids, dtype=np.int64)


def _borders(sentences: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, sentences)])


def _seen(corpus: Corpus) -> dict[str, set[str]]:
    sentences, ids = _read(corpus, "train")
    words = list(chain.from_iterable(sentences))
    seen: dict[str, set[str]] = {}
    for span in spans_of(ids, _borders(sentences), corpus.labels, np.ones(len(ids))):
        seen.setdefault(" ".join(words[span.start : span.end]), set()).add(span.type)
    return seen


def _pieces(words: Sequence[str], encoder: Encoder) -> NDArray[np.int64]:
    """Sub-words of each word, by itself."""
    distinct = {word: number for number, word in enumerate(dict.fromkeys(words))}
    specials = encoder.tokenizer.num_special_tokens_to_add(pair=False)
    lengths = encoder.encode([[word] for word in distinct]).lengths - specials
    return np.asarray(lengths)[[distinct[word] for word in words]]


def _rows(data: TokenClassificationDataModule, split: str, number: int) -> list[Row]:
    """The sentences of files, which are read again; where these do not agree with the split, none."""
    files = paths_of(getattr(data, f"{split}_file"))
    options = replace(data.read_options, labels=tuple(data.labels))
    found = [row for row in chain.from_iterable(read(path, options=options) for path in files) if row.tags is not None]
    return found if len(found) == number else []
