"""Logits to labels, the same for scores and for predictions: the most probable ones, or the most probable valid ones.

Valid is what IOB2 allows: `I-PER` behind `B-PER` or `I-PER` of the same sentence, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ner_lightning.errors import InputError
from ner_lightning.tags import is_entity_scheme, opening

Decoding = Literal["argmax", "constrained"]


def default_decoding(labels: Sequence[str]) -> Decoding:
    """Choose `constrained` for labels that mark entities, `argmax` for others.

    Args:
        labels: Label names in the order of their ids.
    """
    return "constrained" if _marks_entities(labels) else "argmax"


def argmax(batch: dict[str, Any], logits: Tensor) -> Tensor:
    """Choose the most probable label at each position.

    Args:
        batch: As `encoding.Collator` makes it.
        logits: (windows, length, labels).

    Returns:
        Label ids, (windows, length).
    """
    return logits.argmax(-1)


def probabilities(logits: Tensor, label_ids: Tensor, *, temperature: float = 1.0) -> Tensor:
    """How probable chosen labels are.

    Args:
        logits: (words, labels), of any precision.
        label_ids: (words,).
        temperature: What logits are divided by, see `calibration`.

    Returns:
        (words,), float32.
    """
    return (logits.float() / temperature).softmax(-1).gather(-1, label_ids[:, None])[:, 0]


def changes(values: Tensor) -> Tensor:
    """Where a value differs from the one before it, as the first does.

    Args:
        values: One of each word, (words,).
    """
    changes = values != values.roll(1)
    changes[:1] = True
    return changes


class Grammar:
    """Which label may follow which in IOB2: fixed, nothing here is learnt.

    Args:
        labels: Label names in the order of their ids.

    Raises:
        InputError: They mark no entities in IOB2.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        if not _marks_entities(labels):
            raise InputError(
                "--model.decoding=constrained: it takes labels that mark entities, a B- for each I-, and these do not "
                f"({', '.join(labels[:4])}, ...): leave it out"
            )
        # (labels,): of I-PER the number of B-PER, of all others their own
        self._opening = torch.tensor([labels.index(opening(label)) for label in labels])
        own = torch.arange(len(labels))
        inside = self._opening != own
        # added to the logarithm of a probability: to the first label of a sentence (labels,), and to a label behind
        # another one (label before, label)
        self._first = torch.zeros(len(labels)).masked_fill(inside, -math.inf)
        self._next = torch.where(self._opening[:, None] == self._opening, 0.0, self._first)

    def decode(self, batch: dict[str, Any], logits: Tensor) -> Tensor:
        """Choose the most probable valid labels of each sentence, as far as it is scored in a window (Viterbi).

        The first word of a window that goes on with a sentence may have any label, see `mend`.

        Args:
            batch: As `encoding.Collator` makes it.
            logits: (windows, length, labels).

        Returns:
            Label ids, (windows, length); of positions where no word is scored the most probable ones.
        """
        label_ids, scored = logits.argmax(-1), batch["word_index"] >= 0
        words, chosen = logits[scored], label_ids[scored]  # (words, labels), (words,)
        window, sentence = scored.nonzero()[:, 0], batch["sentence_index"][scored]
        enters = changes(window)
        starts = enters | changes(sentence)
        goes_on = enters & (batch["words_before"][window] > 0)
        breaks = self._breaks(chosen, starts) & ~goes_on
        # nearly all of the most probable labels are valid, and so the most probable valid ones
        part = starts.cumsum(0) - 1  # (words,): sentences, as far as they are in one window
        broken = torch.isin(part, part[breaks])
        if broken.any():
            sizes = part[broken].bincount().cpu()
            sizes = sizes[sizes > 0]
            first = torch.where(goes_on[broken & starts][:, None].cpu(), 0.0, self._first)
            # many small steps: a processor has taken them before a GPU has started them
            best = _viterbi(words[broken].float().cpu().log_softmax(-1), sizes, first, self._next)
            chosen[broken] = best.to(chosen.device)
            label_ids[scored] = chosen
        return label_ids

    def mend(self, label_ids: Tensor, sentence_index: Tensor) -> Tensor:
        """Make valid what was decoded in one window after another: an `I-` that nothing leads to becomes `B-`.

        Args:
            label_ids: Of all words in their order, (words,).
            sentence_index: The sentence of each word, (words,).
        """
        breaks = self._breaks(label_ids, changes(sentence_index))
        return torch.where(breaks, self._opening.to(label_ids.device)[label_ids], label_ids)

    def _breaks(self, label_ids: Tensor, starts: Tensor) -> Tensor:
        """Where an `I-` starts a sentence or stands behind a label that it may not follow, (words,)."""
        opened = self._opening.to(label_ids.device)[label_ids]
        return (opened != label_ids) & (starts | (opened != opened.roll(1)))


def _marks_entities(labels: Sequence[str]) -> bool:
    return is_entity_scheme(labels) and {opening(label) for label in labels} <= set(labels)


def _viterbi(words: Tensor, sizes: Tensor, first: Tensor, following: Tensor) -> Tensor:
    """The best labels of sentences that lie one after another, all of them at once, word by word.

    Args:
        words: Logarithms of probabilities, (words, labels).
        sizes: Words of each sentence, (sentences,).
        first: What is added for the first label of each sentence, (sentences, labels).
        following: What is added for a label behind another one, (label before, label).
    """
    inside = torch.arange(int(sizes.max()) + 1) < sizes[:, None]  # (sentences, length)
    # behind its end each sentence has one label only, which may follow any: how ties are broken depends on no padding
    end = int(following.sum(0).argmax())
    padded = words.new_full((*inside.shape, words.shape[-1]), -math.inf)
    padded[..., end] = 0
    padded[inside] = words
    best = padded[:, 0] + first  # (sentences, labels): of the best labels that end so
    origins = []
    for step in padded.unbind(1)[1:]:
        best, origin = (best[:, :, None] + following).max(1)
        best = best + step
        origins.append(origin)
    label_ids = [torch.full_like(sizes, end)]
    for origin in reversed(origins):
        label_ids.append(origin.gather(1, label_ids[-1][:, None])[:, 0])
    return torch.stack(label_ids[::-1], 1)[inside]
