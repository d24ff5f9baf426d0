"""The order in which people should label rows: the least certain first, from many documents, near-duplicates last."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from ner_lightning.predict.entities import LabelledRow

Order = Literal["input", "uncertain"]

_ALIKE = 0.8  # share of the different words of two rows that both have, from which on they are near-duplicates


def least_certain_first(rows: Iterable[LabelledRow], *, max_per_document: int) -> list[LabelledRow]:
    """Put first what is worth labelling; each row comes once, but for those without words.

    A row is as certain as its least certain word. After `max_per_document` rows of a document the other documents come
    first; rows that are nearly as one before them come last.

    Args:
        rows: All of an input, which are in memory together.
        max_per_document: Rows of a document, in each round through the documents.
    """
    ranked = sorted((each for each in rows if each.row.words), key=lambda each: min(each.scores))
    alike = near_duplicates([each.row.words for each in ranked])
    taken: Counter[int | str | None] = Counter()
    rounds = []
    for each, again in zip(ranked, alike, strict=True):
        document = each.row.document
        rounds.append((again, 0 if document is None else taken[document] // max_per_document))
        taken[document] += not again
    order = sorted(range(len(ranked)), key=rounds.__getitem__)  # of one round as they were ranked
    return [ranked[number] for number in order]


def near_duplicates(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Tell which rows have nearly the words of one before them that is none itself.

    Case, digits, punctuation, repetition and order do not count. Two rows can be alike only if they share one of their
    rarest words: these are looked up, no row is compared with all.

    Args:
        rows: Words of each.
    """
    words = [{_DIGIT.sub("0", word.lower()) for word in row if any(map(str.isalnum, word))} for row in rows]
    frequency = Counter(word for row in words for word in row)
    index: defaultdict[str, list[int]] = defaultdict(list)
    found = []
    for number, row in enumerate(words):
        rarest = sorted(row, key=lambda word: (frequency[word], word))[: int((1 - _ALIKE) * len(row) + 1e-9) + 1]
        candidates = {other for word in rarest for other in index[word]}
        found.append(any(len(row & words[other]) >= _ALIKE * len(row | words[other]) for other in candidates))
        if not found[-1]:
            for word in rarest:
                index[word].append(number)
    return found


_DIGIT = re.compile(r"\d")
