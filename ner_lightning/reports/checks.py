"""What may be wrong with a corpus: the checks of `inspect`, over the numbers of `hashed`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ner_lightning.reports.hashed import COMPOSED, DECOMPOSED, EXAMPLES, FAULTS, SplitNumbers, numbers_of
from ner_lightning.tags import is_entity_scheme
from ner_lightning.windows import offsets_of

if TYPE_CHECKING:
    from ner_lightning.data import TokenClassificationDataModule

Worry = Literal["no", "look", "yes"]

_SHOWN = 60  # characters of a sentence
_LONG = 5  # words from which on a sentence that comes again is no headline or table row
_FEW, _TOO_FEW = 50, 10  # entities of a type in training


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        check: Its name.
        worry: `yes`; `look` at the examples, which tell; or `no`.
        count: Of what was found.
        total: Of all that could be so.
        text: What was found, with both numbers, and what it means.
        examples: Each with `place` (`path:line`) and `text`.
    """

    check: str
    worry: Worry
    count: int
    total: int
    text: str
    examples: list[dict[str, str]]


def check_corpus(data: TokenClassificationDataModule) -> list[Finding]:
    """Look for what is often wrong with corpora; nothing that is as it should be is told.

    Args:
        data: The corpus, with the tokenizer that decides which sentences are read whole.
    """
    types = sorted({label[2:] for label in data.labels if label != "O"}) if is_entity_scheme(data.labels) else []
    splits = {
        split: numbers_of(rows.with_format("arrow").iter(1000), data.labels, types)
        for split, rows in data.corpus.splits.items()
    }
    found = [
        *_repeated(splits, types),
        *_shared(splits, types),
        *_contradicted(splits),
        *_cut(data),
        *_encodings(splits),
    ]
    if types:
        found += [*_seen(splits), *_ambiguous(splits, types), *_rare(splits, types), *_missing(splits, types)]
        found += _borders(splits)
    found.sort(key=lambda one: _ORDER.index(one.worry))
    return _with_places(found, data)


_ORDER: list[Worry] = ["yes", "look", "no"]


def findings_text(findings: Sequence[Finding]) -> str:
    """The findings for people, the worst first."""
    lines = ["checks of the corpus (worry, look at the examples, or fine)"]
    for one in findings:
        lines += [
            "",
            f"{_SAID[one.worry]:8}{one.text}",
            *(f"          {e['place']}  {e['text']}" for e in one.examples),
        ]
    clean = [name for name in _CHECKS if not any(one.check == name for one in findings)]
    return "\n".join([*lines, *(["", f"{'fine':8}nothing found of: {', '.join(clean)}"] if clean else [])])


_CHECKS = (
    "repeated sentences",
    "sentences of two splits",
    "contradictions",
    "long sentences",
    "encoding",
    "several types",
    "rare types",
    "missing types",
    "punctuation",
)
_SAID: dict[Worry, str] = {"yes": "worry", "look": "look", "no": "fine"}


class _Spot(NamedTuple):
    """A word of a sentence, or the words of an entity, to be read again; `of` is another one that it is like."""

    split: str
    row: int
    first: int = 0
    words: int = 0  # 0: the whole sentence
    note: str = ""
    of: _Spot | None = None


class _Found(NamedTuple):
    check: str
    worry: Worry
    hits: int
    total: int
    text: str
    spots: list[_Spot]


def _repeated(splits: dict[str, SplitNumbers], types: list[str]) -> Iterator[_Found]:
    for name, split in splits.items():
        long = _telling(split, types)
        _, first, same = np.unique(split.sentences[long], return_index=True, return_inverse=True)
        again = np.flatnonzero(first[same] != np.arange(len(long)))
        if count := len(again):
            means = "they count more than others" if name == "train" else "they are scored several times"
            yield _Found(
                "repeated sentences",
                _by_share(count, len(long), look=0.01, yes=0.1),
                count,
                len(long),
                f"{_share(count, len(long))} sentences of {name} {_kind(types)} stand there before: {means}",
                [_Spot(name, int(long[n]), of=_Spot(name, int(long[first[same[n]]]))) for n in again[:EXAMPLES]],
            )


def _shared(splits: dict[str, SplitNumbers], types: list[str]) -> Iterator[_Found]:
    for one, other in combinations(splits, 2):
        known, long = (_telling(splits[name], types) for name in (one, other))
        distinct, first = np.unique(splits[one].sentences[known], return_index=True)
        hashes = splits[other].sentences[long]
        place = np.minimum(np.searchsorted(distinct, hashes), max(len(distinct) - 1, 0))
        twice = np.flatnonzero(distinct[place] == hashes) if len(distinct) else np.zeros(0, np.int64)
        if count := len(twice):
            means = "they are learnt by heart, take them out" if one == "train" else "one choice is made twice"
            yield _Found(
                "sentences of two splits",
                _by_share(count, len(long), look=0, yes=0.01),
                count,
                len(long),
                f"{_share(count, len(long))} sentences of {other} {_kind(types)} are in {one}, too: {means}",
                [_Spot(other, int(long[n]), of=_Spot(one, int(known[first[place[n]]]))) for n in twice[:EXAMPLES]],
            )


def _telling(split: SplitNumbers, types: list[str]) -> NDArray[np.int64]:
    """The sentences that should not come twice: no short ones, and none without an entity."""
    told = split.lengths >= _LONG
    if types:
        told &= np.isin(np.arange(len(told)), split.entities["row"])
    return np.flatnonzero(told)


def _kind(types: list[str]) -> str:
    return f"({_LONG} words and more{', with entities' if types else ''})"


def _contradicted(splits: dict[str, SplitNumbers]) -> Iterator[_Found]:
    starts = offsets_of([len(split.lengths) for split in splits.values()])
    words = np.concatenate([split.sentences for split in splits.values()])
    labelled = np.concatenate([split.labelled for split in splits.values()])
    lengths = np.concatenate([split.lengths for split in splits.values()])
    _, first, same = np.unique(words, return_index=True, return_inverse=True)
    other = np.flatnonzero(labelled != labelled[first[same]])
    again = int((first[same] != np.arange(len(words)))[lengths > 0].sum())
    names = list(splits)

    def spot(number: int, **more: Any) -> _Spot:
        split = int(np.searchsorted(starts, number, side="right")) - 1
        return _Spot(names[split], int(number - starts[split]), **more)

    if count := len(other):
        yield _Found(
            "contradictions",
            "yes",
            count,
            again,
            f"{_share(count, again)} sentences that stand in the corpus before have other labels there: one of the two "
            "is wrong, or the sentence alone does not tell",
            [spot(n, of=spot(first[same[n]])) for n in other[:EXAMPLES]],
        )


def _cut(data: TokenClassificationDataModule) -> Iterator[_Found]:
    if data.context != "sentence":  # where a sentence that a window cuts may be whole in the next one
        return
    for name, rows in data.corpus.splits.items():
        windows: Any = data.loader(name).dataset
        if not len(windows):
            continue
        sentences = np.maximum.reduceat(windows.sentence_index, windows.offsets[:-1])  # each window has one
        cut = np.unique(sentences[windows.words_before > 0])
        if count := len(cut):
            yield _Found(
                "long sentences",
                _by_share(count, len(rows), look=0, yes=0.1),
                count,
                len(rows),
                f"{_share(count, len(rows))} sentences of {name} have more than max_seq_length="
                f"{data.encoder.max_seq_length} sub-words: no model reads them whole, they are cut into windows (each "
                "word is still scored once); split them, or raise --data.max_seq_length if the model takes more",
                [_Spot(name, int(row)) for row in cut[:EXAMPLES]],
            )


def _encodings(splits: dict[str, SplitNumbers]) -> Iterator[_Found]:
    total = sum(len(split.lengths) for split in splits.values())

    def rows(kind: str) -> list[_Spot]:
        return [_Spot(name, row, note=kind) for name, split in splits.items() for row in split.faults[kind].first]

    def count(kind: str) -> int:
        return sum(split.faults[kind].count for split in splits.values())

    for kind in FAULTS:
        if number := count(kind):
            text = f"{_share(number, total)} sentences hold {kind}: make them again from the source"
            yield _Found("encoding", "yes", number, total, text, rows(kind)[:EXAMPLES])
    rare, other = sorted((COMPOSED, DECOMPOSED), key=count)
    if number := count(rare):
        text = (
            f"{_share(number, total)} sentences have {rare} accents, {count(other):,} {other} ones: words that look "
            "equal are not; normalise all (unicodedata.normalize('NFC', text))"
        )
        yield _Found("encoding", "yes", number, total, text, rows(rare)[:EXAMPLES])


def _seen(splits: dict[str, SplitNumbers]) -> Iterator[_Found]:
    for name, split in splits.items():
        if name == "train" or "train" not in splits or not len(split.entities):
            continue
        seen = np.flatnonzero(np.isin(split.entities["form"], splits["train"].entities["form"]))
        count, total = len(seen), len(split.entities)
        yield _Found(
            "seen entities",
            _by_share(count, total, look=0.8, yes=1),
            count,
            total,
            f"{_share(count, total)} entities of {name} are entities in train, word for word; how well new names are "
            "found, the others tell",
            [_spot_of(name, split.entities[n]) for n in seen[:EXAMPLES]],
        )


def _ambiguous(splits: dict[str, SplitNumbers], types: list[str]) -> Iterator[_Found]:
    """Surface forms with several types: those first whose rarest type is the least likely beside the others."""
    names = [name for name, split in splits.items() for _ in range(len(split.entities))]
    entities = np.concatenate([split.entities for split in splits.values()])
    _, form = np.unique(entities["form"], return_inverse=True)
    pairs, first, counts = np.unique(form * len(types) + entities["type"], return_index=True, return_counts=True)
    of_form = pairs // max(len(types), 1)
    several = np.bincount(of_form)[of_form] > 1 if len(pairs) else np.zeros(0, bool)
    if not several.any():
        return
    most = np.zeros(of_form.max() + 1, dtype=np.int64)
    np.maximum.at(most, of_form, counts)
    rare = np.flatnonzero(several & (most[of_form] >= 5 * counts))
    order = sorted(np.flatnonzero(several), key=lambda pair: (counts[pair] / most[of_form[pair]], first[pair]))
    forms = len(np.unique(of_form[several]))
    spots = []
    for pair in order[:EXAMPLES]:
        others = sorted(np.flatnonzero(of_form == of_form[pair]), key=lambda other: -counts[other])
        note = ", ".join(f"{counts[other]:,} {types[pairs[other] % len(types)]}" for other in others)
        here = types[pairs[pair] % len(types)]
        spots.append(_spot_of(names[first[pair]], entities[first[pair]], note=f"{here} here, of {note}"))
    odd = int(counts[rare].sum())
    yield _Found(
        "several types",
        "look" if odd else "no",
        forms,
        len(most),
        f"{_share(forms, len(most))} names have several types: some do by nature (a town and its club)"
        + (f"; the type of {odd:,} is at least five times rarer than another one of the name" if odd else ""),
        spots,
    )


def _rare(splits: dict[str, SplitNumbers], types: list[str]) -> Iterator[_Found]:
    if "train" not in splits:
        return
    entities = splits["train"].entities
    counts = np.bincount(entities["type"], minlength=len(types))
    few = np.flatnonzero((counts < _FEW) & (counts > 0))
    if len(few):
        listed = ", ".join(f"{types[n]} {counts[n]}" for n in few)
        yield _Found(
            "rare types",
            "yes" if counts[few].min() < _TOO_FEW else "look",
            len(few),
            len(types),
            f"{_share(len(few), len(types))} types have less than {_FEW} entities in train: {listed}",
            [_spot_of("train", entities[np.argmax(entities["type"] == n)], note=types[n]) for n in few[:EXAMPLES]],
        )


def _missing(splits: dict[str, SplitNumbers], types: list[str]) -> Iterator[_Found]:
    for number, type_ in enumerate(types):
        of = {name: np.flatnonzero(split.entities["type"] == number) for name, split in splits.items()}
        have, lack = ([name for name in splits if bool(len(of[name])) == there] for there in (True, False))
        if have and lack:
            means = "it cannot be learnt" if "train" in lack else "its score there is not known"
            yield _Found(
                "missing types",
                "yes" if "train" in lack else "look",
                len(lack),
                len(splits),
                f"{type_} is in {' and '.join(have)}, but not in {' and '.join(lack)}: {means}",
                [_spot_of(have[0], splits[have[0]].entities[n]) for n in of[have[0]][:EXAMPLES]],
            )


def _borders(splits: dict[str, SplitNumbers]) -> Iterator[_Found]:
    loose = [(name, entity) for name, split in splits.items() for entity in split.entities[split.entities["loose"]]]
    total = sum(len(split.entities) for split in splits.values())
    if count := len(loose):
        yield _Found(
            "punctuation",
            _by_share(count, total, look=0, yes=0.005),
            count,
            total,
            f"{_share(count, total)} entities begin or end with punctuation: their border may be wrong",
            [_spot_of(name, entity) for name, entity in loose[:EXAMPLES]],
        )


def _with_places(found: list[_Found], data: TokenClassificationDataModule) -> list[Finding]:
    """Read again what is shown, each file once."""
    spots = [spot for one in found for spot in one.spots]
    spots += [spot.of for spot in spots if spot.of]
    places: dict[_Spot, str] = {}
    for split in data.corpus.splits:
        here = [spot for spot in spots if spot.split == split]
        places.update(zip(here, data.corpus.places(split, [(s.row, s.first) for s in here]), strict=True))

    def example(spot: _Spot) -> dict[str, str]:
        words = data.corpus.splits[spot.split][spot.row]["tokens"]
        text = " ".join(words[spot.first : spot.first + spot.words] if spot.words else words)
        text = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
        note = f"as {places[spot.of]}" if spot.of else spot.note
        return {"place": places[spot], "text": f"{text} ({note})" if note else text}

    return [Finding(*one[:-1], examples=[example(spot) for spot in one.spots]) for one in found]


def _spot_of(split: str, entity: Any, note: str = "") -> _Spot:
    return _Spot(split, int(entity["row"]), int(entity["first"]), int(entity["words"]), note)


def _by_share(count: int, total: int, *, look: float, yes: float) -> Worry:
    share = count / max(total, 1)
    return "yes" if share > yes else "look" if share > look else "no"


def _share(count: int, total: int) -> str:
    share = 100 * count / max(total, 1)
    return f"{count:,} of {total:,} ({share:.{1 if share >= 0.1 or not count else 2}f} %)"
