"""A trained model as a function: texts or words in, entities out, in order, of any length.

Needs neither a Trainer nor a corpus. Words are encoded, cut into windows and decoded as in training and testing, so
that what comes out is what was scored.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ner_lightning.calibration import Calibration, find_entities
from ner_lightning.decoding import Decoding, Grammar, argmax, default_decoding, probabilities
from ner_lightning.encoding import OF_DOCUMENTS, Collator, Encoder
from ner_lightning.errors import InputError
from ner_lightning.hardware import inference_tokens
from ner_lightning.onnx_model import FILE, OnnxClassifier
from ner_lightning.predict.entities import EntityReader, LabelledRow
from ner_lightning.predict.markup import Entities, OfSeveral, TaggedWord, TaggedWords
from ner_lightning.products import onednn_products
from ner_lightning.readers import Row
from ner_lightning.sampling import LengthBatchSampler
from ner_lightning.tags import is_entity_scheme
from ner_lightning.windows import Windows
from ner_lightning.words import split_words

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

# of what is sorted by length together: enough for even batches, little memory
_ROWS, _WORDS = 1024, 16_384


class Tagger:
    """A trained token classifier.

    `Tagger.load` makes one from a run, a checkpoint, an exported folder or a model on the Hub.

    Args:
        model: The classifier; its configuration names the labels.
        encoder: What turns words into windows.
        decoding: `argmax` or `constrained`, as for the module.
        decode: Chooses a label at each position, from a batch and its logits (windows, length, labels), in place of
            `decoding`.
        calibration: Of the scores, as validation found it; by default none.
        min_score: Entities with a smaller score are left out: their words have the label O.
        precision_target: Leave out entities of each type below the score from which on that share of them was right
            on validation, such as 0.95.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: Of the arithmetic; weights stay in float32.
        max_tokens: Sub-words in a batch, with padding; by default 1,024 on a processor and 8,192 elsewhere.

    Raises:
        InputError: The device cannot be used, a batch holds nothing, or entities cannot be left out by their score.
    """

    def __init__(
        self,
        model: PreTrainedModel | OnnxClassifier,
        encoder: Encoder,
        *,
        decoding: Decoding | None = None,
        decode: Callable[[dict[str, Any], Tensor], Tensor] | None = None,
        calibration: Calibration | None = None,
        min_score: float = 0.0,
        precision_target: float | None = None,
        device: str = "auto",
        precision: Precision = "32-true",
        max_tokens: int | None = None,
    ) -> None:
        if max_tokens is not None and max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens}: a batch holds at least one sub-word")
        self.labels = encoder.labels
        self.encoder = encoder
        self.entities = EntityReader(self.labels)
        constrained = decode is None and (decoding or default_decoding(self.labels)) == "constrained"
        grammar = Grammar(self.labels) if constrained else None
        self._mend = grammar.mend if grammar else None
        self._decode = decode or (grammar.decode if grammar else argmax)
        self._temperature = calibration.temperature if calibration else 1.0
        self._least = self._thresholds(calibration, min_score, precision_target)
        self._told = False  # that there is no context
        self._dtype = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
        try:
            self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
            self._model = model.to(self.device)
        except (RuntimeError, AssertionError) as error:  # of torch, about its build, this machine, or the name
            raise InputError(f"device={device} cannot be used: {str(error).splitlines()[0]}") from error
        self.max_tokens = max_tokens or inference_tokens(self.device)

    @classmethod
    def load(
        cls,
        model: str | Path = "runs",
        *,
        decode: Callable[[dict[str, Any], Tensor], Tensor] | None = None,
        min_score: float = 0.0,
        precision_target: float | None = None,
        device: str = "auto",
        precision: Precision = "32-true",
        max_tokens: int | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Tagger:
        """Load a trained model.

        Args:
            model: Folder of runs (its newest), folder of a run (its best checkpoint), a checkpoint, an exported folder,
                or a Hub id.
            decode: As above; a model that was trained with a decoding of a subclass is to be given it.
            min_score: Entities with a smaller score are left out: their words have the label O.
            precision_target: Leave out entities of each type below the score from which on that share of them was
                right on validation, such as 0.95.
            device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
            precision: Of the arithmetic: `32-true`, `bf16-mixed` or `16-mixed`.
            max_tokens: Sub-words in a batch, with padding; by default 1,024 on a processor and 8,192 elsewhere.
            revision: Branch, tag or commit of a model on the Hub.
            trust_remote_code: Run the code that comes with the model, where it needs it.

        Raises:
            InputError: There is no such model, or none that was trained to label words.
        """
        from ner_lightning.predict.loading import load_trained

        trained = load_trained(str(model), revision=revision, trust_remote_code=trust_remote_code)
        if isinstance(trained.classifier, OnnxClassifier):
            if device not in ("auto", "cpu") or precision != "32-true":
                raise InputError(
                    f"device={device}, precision={precision}: {Path(model) / FILE} runs on the processor, in a "
                    "precision of its own; leave them out"
                )
            device = "cpu"
        if trained.own_decode is not None and decode is None:
            log.warning(
                "%s was scored with %s, which is not known here: these are the most probable labels; give it to "
                "Tagger.load as decode",
                model,
                trained.own_decode,
            )
        return cls(
            trained.classifier,
            trained.encoder,
            decoding=trained.decoding,
            decode=decode,
            calibration=trained.calibration,
            min_score=min_score,
            precision_target=precision_target,
            device=device,
            precision=precision,
            max_tokens=max_tokens,
        )

    def __call__(self, inputs: Any, *, documents: Sequence[int | str] | None = None) -> list[Any]:
        """Find the entities of a text, of several texts, or of sentences whose words are given.

        Args:
            inputs: A text, a list of texts, or a list of lists of words.
            documents: Name or number of the document of each input, for a model with `context`: it reads neighbours of
                one document together.

        Returns:
            Entities of a text, or a list with those of each input. An entity has `type`, `text`, `start`, `end` and
            `score`, the probability of its labels; start and end count characters of a text, and words where words
            were given. A notebook shows these lists as texts with their entities marked.

        Raises:
            InputError: The inputs are neither.
        """
        types = self.entities.types
        found = [
            Entities(self.entities.as_dicts(labelled), row=labelled.row, types=types)
            for labelled in self._label_given(inputs, documents)
        ]
        return found[0] if isinstance(inputs, str) else OfSeveral(found)

    def tags(self, inputs: Any, *, documents: Sequence[int | str] | None = None) -> list[Any]:
        """Label each word.

        Args:
            inputs: A text, a list of texts, or a list of lists of words.
            documents: As above.

        Returns:
            Word, label and probability of each word of a text, or a list with those of each input.

        Raises:
            InputError: The inputs are neither.
        """
        tagged = [
            TaggedWords(map(TaggedWord, labelled.row.words, labelled.labels, labelled.scores))
            for labelled in self._label_given(inputs, documents)
        ]
        return tagged[0] if isinstance(inputs, str) else OfSeveral(tagged)

    def map_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label a batch of columns, as `datasets.map(batched=True)`, Ray Data and Spark pass them.

        Args:
            batch: `text`, a list of texts, or `tokens`, a list of lists of words; `document_id`, where the model has
                `context`; other columns stay as they are.

        Returns:
            The columns, and `entities`; with `tokens` also `tags`.

        Raises:
            InputError: Neither column is there.
        """
        column = next((name for name in ("tokens", "text") if name in batch), None)
        if column is None:
            raise InputError(f"expected a column text or tokens, found {', '.join(batch) or 'none'}")
        labelled = list(self._label_given(batch[column], batch.get("document_id")))
        added: dict[str, Any] = {"entities": [self.entities.as_dicts(each) for each in labelled]}
        if column == "tokens":
            added["tags"] = [each.labels for each in labelled]
        return {**batch, **added}

    def label(self, rows: Iterable[Row], *, of_one_file: bool = True) -> Iterator[LabelledRow]:
        """Label the words of rows, in their order, with no more than about a thousand rows in memory.

        Args:
            rows: As a reader gives them.
            of_one_file: They follow each other in a file: for a model with `context=file` all are neighbours; otherwise
                those of one document.
        """
        for chunk, documents in self._chunks(rows, of_one_file=of_one_file):
            sources = np.zeros_like(documents) if of_one_file else documents
            encoded = self.encoder.encode([row.words for row in chunk], documents=documents, sources=sources)
            labels, scores = self._predict(encoded, [len(row.words) for row in chunk])
            first = 0
            for row in chunk:
                last = first + len(row.words)
                yield LabelledRow(row, labels[first:last], scores[first:last])
                first = last

    def _label_given(self, inputs: Any, documents: Sequence[int | str] | None) -> Iterator[LabelledRow]:
        return self.label(rows_of(inputs, documents=documents), of_one_file=False)

    def _chunks(self, rows: Iterable[Row], *, of_one_file: bool) -> Iterator[tuple[list[Row], NDArray[np.int64]]]:
        """Whole passages of about as many rows and words as stand in memory together, and their documents."""
        waiting: list[Row] = []
        documents: list[int] = []
        words = 0
        for row in rows:
            alone = row.document is None
            context = self.encoder.context
            needs = context in OF_DOCUMENTS or (context == "file" and not of_one_file)
            if alone and needs and not self._told:
                self._told = True
                log.warning(
                    "%s: the model reads sentences among their neighbours, and here each is alone: labels may be "
                    "worse; give the documents (-DOCSTART- lines, a field document_id, paragraphs of a text)",
                    row.place,
                )
            new = not waiting or alone or row.document != waiting[-1].document
            documents.append((documents[-1] if documents else 0) + new)
            waiting.append(row)
            words += len(row.words)
            if len(waiting) >= _ROWS or words >= _WORDS:
                numbers = np.array(documents)
                count = self.encoder.whole_passages(numbers, np.zeros_like(numbers) if of_one_file else numbers)
                if count:
                    yield waiting[:count], np.array(documents[:count])
                    del waiting[:count], documents[:count]
                    words = sum(len(row.words) for row in waiting)
        if waiting:
            yield waiting, np.array(documents)

    @torch.inference_mode()
    def _predict(self, encoded: Windows, lengths: Sequence[int]) -> tuple[list[str], list[float]]:
        """Label and probability of each word of sentences with these lengths."""
        num_words = sum(lengths)
        collate = Collator(
            num_words=num_words,
            pad_token_id=self.encoder.tokenizer.pad_token_id or 0,
            multiple=8 if self.device.type == "cuda" else 1,
            max_seq_length=self.encoder.max_seq_length,
        )
        label_ids = torch.full((num_words,), -1, dtype=torch.int64)
        logits = torch.empty(num_words, len(self.labels), dtype=torch.float32)
        training = self._model.training  # of a model that is still trained
        self._model.eval()
        for windows in LengthBatchSampler(encoded.lengths, max_tokens=self.max_tokens, shuffle=False):
            batch = collate(encoded[windows])
            place = batch["word_index"][batch["word_index"] >= 0]  # type: ignore[index]
            label_ids[place], logits[place] = self._run(batch)
        self._model.train(training)
        assert bool((label_ids >= 0).all()), "each word comes once"
        sizes = torch.tensor(lengths)
        sentence_index = torch.arange(len(sizes)).repeat_interleave(sizes)
        if self._mend is not None:
            label_ids = self._mend(label_ids, sentence_index)
        scores = probabilities(logits, label_ids, temperature=self._temperature)
        if self._least is not None:
            found = find_entities(label_ids, sentence_index, self.labels)
            weak = (found.scores(scores) < self._least[found.label])[found.of_word]
            label_ids = torch.where(weak, self.labels.index("O"), label_ids)
            scores = probabilities(logits, label_ids, temperature=self._temperature)
        return [self.labels[i] for i in label_ids.tolist()], scores.tolist()

    def _run(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        batch = {name: value.to(self.device) if name != "num_words" else value for name, value in batch.items()}
        scored = batch["word_index"] >= 0
        # no autocast around 32 bits: within a Trainer its own precision holds
        with onednn_products() if self._dtype is None else torch.autocast(self.device.type, dtype=self._dtype):
            logits = self._model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            return self._decode(batch, logits)[scored].cpu(), logits[scored].float().cpu()

    def _thresholds(
        self, calibration: Calibration | None, min_score: float, precision_target: float | None
    ) -> Tensor | None:
        """The least score of entities by their first label, (labels,); None where all are wanted."""
        for name, share in (("min_score", min_score), ("precision_target", precision_target)):
            if share is not None and not 0 <= share <= 1:
                raise InputError(f"{name}={share}: give a number from 0 to 1")
        if not min_score and precision_target is None:
            return None
        if not (is_entity_scheme(self.labels) and "O" in self.labels):
            raise InputError(
                "min_score and precision_target leave out entities, and this model marks none: each word keeps its "
                "label, and its score tells how sure it is"
            )
        least = torch.tensor([0.0 if label == "O" else min_score for label in self.labels])
        if precision_target is None:
            return least
        if calibration is None:
            raise InputError(
                f"precision_target={precision_target}: this model does not know its precision on validation, which "
                "`fit` records; give min_score"
            )
        for type_ in self.entities.types:
            threshold = calibration.threshold(type_, precision=precision_target)
            least[torch.tensor([label[2:] == type_ for label in self.labels])] = max(min_score, threshold)
            if threshold == math.inf:
                log.warning(
                    "precision_target=%s: validation does not show that entities of type %s are that often right "
                    "with any score: all of this type are left out",
                    precision_target,
                    type_,
                )
        return least


def rows_of(inputs: Any, *, documents: Sequence[int | str] | None = None) -> list[Row]:
    """Make rows of texts, whose words are found here, and of lists of words.

    Args:
        inputs: A text, a list of texts, or a list of lists of words.
        documents: Name or number of the document of each input.

    Raises:
        InputError: The inputs are neither, or there are more or fewer documents.
    """
    if isinstance(inputs, str):
        inputs = [inputs]
    if documents is not None and len(documents) != len(inputs):
        raise InputError(f"documents: expected one for each of {len(inputs)} inputs, found {len(documents)}")
    rows = []
    for number, each in enumerate(inputs):
        document = None if documents is None else documents[number]
        if isinstance(each, str):
            spans = split_words(each)
            rows.append(Row([each[s:e] for s, e in spans], None, each, spans, document, f"input {number}", None, {}))
        elif isinstance(each, list | tuple | np.ndarray) and all(isinstance(word, str) for word in each):
            rows.append(Row(list(each), None, None, None, document, f"input {number}", None, {}))
        else:
            raise InputError(f"input {number}: expected a text or a list of words, found {each!r:.80}")
    return rows
