"""Which entities are wrong, and how: the kinds of MUC-5 (Chinchor and Sundheim, 1993), as nervaluate counts them.

A predicted entity belongs to the first true one that shares a word with it and belongs to no other. Of such a pair the
type, the border or both may be wrong; a predicted entity without one is spurious, a true one without one is missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ner_lightning.reports.predictions import Predictions, Span

RIGHT, TYPE, BORDER, BOTH, SPURIOUS, MISSED = KINDS = (
    "right",
    "wrong type",
    "wrong border",
    "wrong type and border",
    "spurious",
    "missed",
)
NONE = "O"  # what stands in the table of confusions for no entity


class Pair(NamedTuple):
    """A true entity and the predicted one that belongs to it; one of them is None where the other is alone."""

    gold: Span | None
    predicted: Span | None

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        if self.gold is None:
            return SPURIOUS
        if self.predicted is None:
            return MISSED
        same_type, same_border = self.gold.type == self.predicted.type, self.gold[1:3] == self.predicted[1:3]
        return (RIGHT if same_border else BORDER) if same_type else (TYPE if same_border else BOTH)

    @property
    def first(self) -> int:
        """The first word of either."""
        return min(span.start for span in self if span is not None)


def pairs(gold: Sequence[Span], predicted: Sequence[Span]) -> list[Pair]:
    """Join the true entities of a split and the predicted ones, by their first word.

    Args:
        gold: In their order; none shares a word with another one.
        predicted: In the same way.
    """
    found: list[Pair] = []
    taken = [False] * len(gold)
    first = 0  # of the true entities that do not end before the predicted one
    for guess in predicted:
        while first < len(gold) and gold[first].end <= guess.start:
            first += 1
        here = first
        while here < len(gold) and gold[here].start < guess.end and taken[here]:
            here += 1
        if here < len(gold) and gold[here].start < guess.end:
            taken[here] = True
            found.append(Pair(gold[here], guess))
        else:
            found.append(Pair(None, guess))
    found += [Pair(span, None) for span, used in zip(gold, taken, strict=True) if not used]
    return sorted(found, key=lambda pair: pair.first)


def kinds_by_type(found: Iterable[Pair], types: Sequence[str]) -> dict[str, dict[str, int]]:
    """How often each kind comes, by type: that of the true entity, of a spurious one its own."""
    counts = Counter((_type(pair), pair.kind) for pair in found)
    return {type_: {kind: counts[type_, kind] for kind in KINDS} for type_ in types}


def confusion(found: Iterable[Pair], types: Sequence[str]) -> list[list[int]]:
    """Pairs by the type of the true entity (rows) and of the predicted one (columns); last stands `NONE`."""
    counts = Counter((_name(pair.gold), _name(pair.predicted)) for pair in found)
    every = [*types, NONE]
    return [[counts[row, column] for column in every] for row in every]


def sentence_errors(
    split: Predictions, found: Sequence[Pair], other: Sequence[Pair] | None = None
) -> list[dict[str, Any]]:
    """The sentences with an error, of this run or of another one, as the page shows them.

    An entity is its first word, the word behind it, type, kind, and its score where it is predicted; `was` are the
    predicted ones of the other run, `change` what became of the sentence.
    """
    own, former = (_by_sentence(split, each) for each in (found, other or ()))
    shown = []
    for number in sorted(own.keys() | former.keys()):
        both = [own.get(number, []), former.get(number, [])]
        wrong, was = ([pair for pair in each if pair.kind != RIGHT] for each in both)
        if not wrong and not was:
            continue
        if not split.entities:  # every word is an entity
            both = [wrong, was]
        start, end = split.sentences[number : number + 2].tolist()
        row: dict[str, Any] = {
            "sentence": number + 1,
            "place": split.places[number] if split.places else "",
            "words": split.words[start:end],
            "gold": [_shown(pair.gold, pair.kind, start) for pair in both[0] if pair.gold],
            "predicted": _predicted(both[0], start),
        }
        if other is not None:
            row["was"] = _predicted(both[1], start)
            row["change"] = _change(wrong, was)
        shown.append(row)
    return shown


def _change(wrong: Sequence[Pair], was: Sequence[Pair]) -> str:
    errors, former = (
        Counter((pair.gold, pair.predicted and pair.predicted[:3]) for pair in each) for each in (wrong, was)
    )
    if errors == former:
        return "as before"
    return "mended" if errors < former else "broke" if former < errors else "both"


def _by_sentence(split: Predictions, found: Iterable[Pair]) -> dict[int, list[Pair]]:
    grouped: dict[int, list[Pair]] = {}
    for pair in found:
        grouped.setdefault(split.sentence_of[pair.first], []).append(pair)
    return grouped


def _predicted(found: Iterable[Pair], start: int) -> list[list[Any]]:
    scored = ((pair.predicted, pair.kind) for pair in found if pair.predicted)
    return [[*_shown(span, kind, start), round(span.score, 4)] for span, kind in scored]


def _shown(span: Span, kind: str, start: int) -> list[Any]:
    return [span.start - start, span.end - start, span.type, kind]


def _type(pair: Pair) -> str:
    return _name(pair.gold or pair.predicted)


def _name(span: Span | None) -> str:
    return NONE if span is None else span.type
