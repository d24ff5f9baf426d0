"""Tag schemes: which one a corpus uses, conversion to IOB2, tags to entities, the order of labels.

A sentence is a sequence of tags, such as `["B-PER", "O"]`. An error names the tag; the caller adds its place in a file.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Literal, NamedTuple, NoReturn

from ner_lightning.errors import InputError

Scheme = Literal["IOB1", "IOB2", "BIOES", "IOBES", "BILOU", "IO", "plain"]


class Entity(NamedTuple):
    """The words `[start, end)` of a sentence, as one entity of a type."""

    type: str
    start: int
    end: int


class TagError(InputError):
    """A tag that belongs to no scheme, or not to the given one.

    Args:
        message: the sentence for the user.
        tag: the tag as it stands in the data.
        place: its sentence and its word, both from 0, where it is not the first of its kind that is meant.
    """

    def __init__(self, message: str, *, tag: str = "", place: tuple[int, int] | None = None) -> None:
        # The defaults are for pickle, which rebuilds from the message and then sets the rest.
        super().__init__(message)
        self.tag = tag
        self.place = place


class UndecidedError(TagError):
    """More than one scheme fits the tags; `tag` is empty where no single one is to blame."""


class Slips(NamedTuple):
    """The few entities of a corpus that open otherwise than its scheme has it."""

    number: int
    openings: int  # of how many
    tag: str  # of the first
    place: tuple[int, int]  # its sentence and its word, both from 0


def detect_scheme(sentences: Iterable[Sequence[str]]) -> tuple[Scheme, Slips | None]:
    """Tell the scheme of a corpus from its tags, in one pass over the sentences.

    Returns:
        The scheme; and where it is IOB1 or IOB2 and a few entities open otherwise, which ones. `to_iob2` reads these as
        conlleval does.

    Raises:
        TagError: a tag that belongs to no scheme stands among entity tags.
        UndecidedError: more than one scheme remains.
    """
    # `first`: prefix -> the first tag that has it, under "O" for O and "" for a tag without prefix.
    # `opening`: tag and place of the first B and I after O, after another type or at the start, where IOB1 has I- and
    # IOB2 B-; `counts`: how many of these there are.
    first: dict[str, str] = {}
    opening: dict[str, tuple[str, tuple[int, int]]] = {}
    counts = {"B": 0, "I": 0}
    seen: set[str] = set()
    for sentence, tags in enumerate(sentences):
        seen.update(tags)
        before = ""
        for word, tag in enumerate(tags):
            prefix, type_ = _split(tag) or ("", tag)
            first.setdefault(prefix, tag)
            if prefix in ("B", "I") and type_ != before:
                opening.setdefault(prefix, (tag, (sentence, word)))
                counts[prefix] += 1
            before = type_
    refuse_malformed(seen)
    scheme = _decide(first)
    if scheme is not None:
        return scheme, None
    scheme, rare = ("IOB1", "B") if counts["I"] > counts["B"] else ("IOB2", "I")
    if rare not in opening:
        return scheme, None
    tag, place = opening[rare]
    slips = Slips(counts[rare], sum(counts.values()), tag, place)
    if slips.number > _SLIPS * slips.openings:
        raise UndecidedError(
            f"tag {tag!r} opens an entity; {counts['B']} open with B-, as in IOB2, and {counts['I']} with I-, as in "
            "IOB1: give --data.scheme=IOB2 (IOB1 reads the same), and ill-formed tags are then read as conlleval does",
            tag=tag,
            place=place,
        )
    return scheme, slips


def refuse_malformed(tags: Iterable[str]) -> None:
    """Refuse tags that nearly are those of a scheme, and would be read as types or as labels of words.

    Two labels in one tag (`B-ORG|B-LOC`) are refused wherever they stand. Another spelling (`B_PER`, `PER-B`, `b-per`)
    is refused where all tags that are of no scheme have one: labels of words (POS) have many shapes.

    Raises:
        TagError: names the first of them, in alphabetical order.
    """
    seen = set(tags)
    for tag in sorted(seen):
        _refuse_several(tag)
    foreign = sorted(tag for tag in seen - {"O", "o"} if _split(tag) is None)
    if not foreign or not all(map(_meant, foreign)):
        return
    # such as positions in an entity: beside O, beside tags of a scheme, or where one type has both
    meant = {_meant(tag) for tag in foreign}
    if len(foreign) < len(seen) or any(f"B{tag[1:]}" in meant and f"I{tag[1:]}" in meant for tag in meant if tag):
        _refuse(foreign[0])


def lacks_types(tags: Iterable[str]) -> bool:
    """Tell whether a corpus has one type of entities, which its tags do not name: `O`, `B`, `I`."""
    seen = set(tags)
    return "O" in seen and bool(seen & {"B", "I", "B-", "I-"}) and seen <= {"O", *with_type("")}


def with_type(type_: str) -> dict[str, str]:
    """Give the tags that stand for those without a type."""
    return {f"{prefix}{dash}": f"{prefix}-{type_}" for prefix in "BIESLU" for dash in ("", "-")}


def to_iob2(tags: Sequence[str], *, scheme: Scheme) -> list[str]:
    """Convert a sentence to IOB2; ill-formed sequences are read as conlleval does, plain tags stay.

    Raises:
        TagError: a tag is not one of the scheme.
    """
    read = [_read(tag, scheme) for tag in tags]
    if scheme == "plain":
        return list(tags)
    converted = ["O"] * len(tags)
    for type_, start, end in _spans(read):
        converted[start:end] = [f"B-{type_}", *[f"I-{type_}"] * (end - start - 1)]
    return converted


def entities(tags: Sequence[str]) -> list[Entity]:
    """Read the entities of a sentence in any scheme with prefixes, as conlleval and seqeval do.

    An ill-formed sequence has a reading too: a change of type ends an entity, and an inside tag with no
    entity before it opens one.

    Raises:
        TagError: a tag is neither O nor a prefix with a type.

    >>> entities(["O", "I-PER", "I-LOC"])
    [Entity(type='PER', start=1, end=2), Entity(type='LOC', start=2, end=3)]
    """
    return list(_spans(_split(tag) or _refuse(tag) for tag in tags))


def label_list(tags: Iterable[str]) -> list[str]:
    """Order the labels of a corpus, whatever the order in which they appear.

    IOB2 tags: O, then by type, B- before I-, both for every type. Plain tags: O if it is there, then sorted.
    """
    seen = set(tags)
    if not is_entity_scheme(seen):
        return sorted(seen, key=lambda tag: (tag != "O", tag))
    types = sorted({tag[2:] for tag in seen if tag != "O"})
    return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]


def is_entity_scheme(labels: Iterable[str]) -> bool:
    """Tell whether labels mark entities (IOB2) or each word on its own (plain)."""
    prefixes = {(_split(label) or ("", label))[0] for label in labels} - {"O"}
    return bool(prefixes) and prefixes <= {"B", "I"}


def continuation(label: str) -> str:
    """Give the label of the next piece of a word: `I-` of the same type after `B-`, else the same label."""
    return "I" + label[1:] if label.startswith("B-") else label


def opening(label: str) -> str:
    """Give the label that opens the entity of a label: `B-` of the same type for `I-`, else the same label."""
    return "B" + label[1:] if label.startswith("I-") else label


_PREFIXES: dict[Scheme, str] = {
    "IOB1": "BI",
    "IOB2": "BI",
    "BIOES": "BIES",
    "IOBES": "BIES",
    "BILOU": "BILU",
    "IO": "I",
}
# One opening in a hundred: the corpora with slips of annotators that are known have far less (one in ten thousand), two
# schemes put together far more. It follows that below a hundred entities a single one is asked about.
_SLIPS = 0.01
_LETTERS = "BIESLUbieslu"
_BEFORE = re.compile(rf"([{_LETTERS}])[-_:./](.+)", re.DOTALL)
_BEHIND = re.compile(rf"(.+)[-_:./]([{_LETTERS}])", re.DOTALL)
_SEVERAL = re.compile(r"(?:O|[BIESLU]-.+?)[|,;/+&#](?:O$|[BIESLU]-.)", re.DOTALL)


@lru_cache(maxsize=4096)
def _split(tag: str) -> tuple[str, str] | None:
    """Prefix and type; the type of O is empty; None for a tag of no scheme with prefixes."""
    if tag == "O":
        return "O", ""
    if len(tag) > 2 and tag[0] in "BIESLU" and tag[1] == "-":
        return tag[0], tag[2:]
    return None


@lru_cache(maxsize=4096)
def _read(tag: str, scheme: Scheme) -> tuple[str, str]:
    if not tag:
        raise TagError("a tag is empty; expected a label for every word", tag=tag)
    if scheme == "plain":
        return "O", ""  # no entities
    _refuse_several(tag)
    parts = _split(tag)
    if parts is None and scheme == "IO" and tag[1:] != "-":
        return "I", tag
    if parts is None:
        _refuse(tag)
    if parts[0] not in ("O", *_PREFIXES[scheme]):
        expected = "/".join(f"{prefix}-" for prefix in _PREFIXES[scheme])
        bare = ", or a bare type" if scheme == "IO" else ""
        text = f"tag {tag!r} is not one of {scheme}; expected O or {expected} followed by a type{bare}"
        raise TagError(f"{text}; give another scheme (--data.scheme)", tag=tag)
    return parts


def _refuse(tag: str) -> NoReturn:
    expected = _meant(tag) or "O or B-/I-/E-/S-/L-/U- followed by a type"
    if tag in with_type(""):
        expected = f"{tag[0]}- followed by a type"
    raise TagError(
        f"tag {tag!r} belongs to no scheme; expected {expected}; "
        "for words that carry labels and no entities give --data.scheme=plain",
        tag=tag,
    )


def _refuse_several(tag: str) -> None:
    if _SEVERAL.match(tag):
        raise TagError(
            f"tag {tag!r} holds more than one label; expected one for each word, such as "
            f"{re.split('[|,;/+&#]', tag)[0]}; put the others into another file, or give --data.scheme=plain",
            tag=tag,
        )


def _meant(tag: str) -> str | None:
    """The tag of a scheme that another spelling stands for: `B-PER` for `B_PER`, `PER-B`, `b-PER`."""
    if before := _BEFORE.fullmatch(tag):
        return f"{before[1].upper()}-{before[2]}"
    if behind := _BEHIND.fullmatch(tag):
        return f"{behind[2].upper()}-{behind[1]}"
    return None


def _spans(read: Iterable[tuple[str, str]]) -> Iterator[Entity]:
    before, type_before, start = "O", "", 0
    for index, (prefix, type_) in enumerate(chain(read, [("O", "")])):
        opens = prefix != "O" and (prefix in "BSU" or before in "OESLU" or type_ != type_before)
        if before != "O" and (prefix == "O" or opens):
            yield Entity(type_before, start, index)
        if opens:
            start = index
        before, type_before = prefix, type_


def _decide(first: dict[str, str]) -> Scheme | None:
    """The scheme by its prefixes; None for IOB1 or IOB2, which differ in how entities open."""
    prefixes = first.keys() - {"O", ""}
    # A part-of-speech set may hold a tag like "S-X"; an entity set that holds one has O, B- or I- beside it.
    if "" in first and not (prefixes & {"B", "I"} or (prefixes and "O" in first)):
        if "O" not in first:
            return "plain"
        raise UndecidedError(
            f"tags without prefix such as {first['']!r} stand beside O, so the schemes IO (entities) and plain (labels "
            "of words) both remain; give --data.scheme=IO or --data.scheme=plain",
            tag=first[""],
        )
    if "" in first:
        _refuse(first[""])
    ends, lasts = sorted(prefixes & {"E", "S"}), sorted(prefixes & {"L", "U"})
    if ends and lasts:
        end, last = first[ends[0]], first[lasts[0]]
        raise TagError(f"tag {end!r} is of BIOES and {last!r} is of BILOU; expected one scheme", tag=last)
    if ends or lasts:
        return "BIOES" if ends else "BILOU"
    if not prefixes:
        what = "every tag is O" if first else "there are no tags"
        raise UndecidedError(
            f"{what}, so the schemes IOB1, IOB2, BIOES, BILOU, IO and plain all remain; give one as --data.scheme"
        )
    if "B" not in prefixes:
        raise UndecidedError(
            f"entities have I- tags only (such as {first['I']!r}), so the schemes IOB1 and IO both remain; "
            "give --data.scheme=IOB1 or --data.scheme=IO",
            tag=first["I"],
        )
    return None
