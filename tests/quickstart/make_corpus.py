"""Writes the sample corpus of the package, with the word pieces and the BERT configuration that go with it.

    cd tests && python -m quickstart.make_corpus ../ner_lightning/quickstart

The sentences are those of `grammar.txt`, the names are new ones in every document: a model cannot know a name
of validation or test, and has to learn how names are built and where they stand. The same bytes come out
everywhere. Nothing is known here of transformers or of training.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from quickstart.invented_names import GENERIC, Dice, Names

_HERE = Path(__file__).parent
_SENTENCES = {"train": 3600, "validation": 400, "test": 400}

_NUMBERS: dict[str, Callable[[Dice], str]] = {
    "n": lambda dice: f"{dice.between(1, 40)}",
    "age": lambda dice: f"{dice.between(18, 89)}",
    "big": lambda dice: f"{dice.between(41, 990)}",
    "pct": lambda dice: f"{dice.between(0, 9)}.{dice.between(1, 9)}",
    "score": lambda dice: f"{dice.between(0, 4)}-{dice.between(0, 4)}",
    "set": lambda dice: f"6-{dice.between(0, 4)}",
    "race": lambda dice: f"{dice.between(2, 9)}:{dice.between(10, 59)}.{dice.between(10, 99)}",
    "clock": lambda dice: f"{dice.between(7, 21)}.{dice.between(10, 59)}",
    "date": lambda dice: f"{dice.between(1, 31)}",
    "year": lambda dice: f"19{dice.between(10, 99)}",
    "money": lambda dice: f"{dice.between(2, 99)}.{dice.between(1, 9)} million",
    "day": lambda dice: f"{dice.one('Mon Tues Wednes Thurs Fri Satur Sun'.split())}day",
    "month": lambda dice: dice.one("January March April May June July August September October December".split()),
}

_Sentence = list[tuple[str, str]]  # (word, tag)


def write_corpus(folder: Path) -> None:
    """Write the three splits, the word pieces and the two configurations.

    Args:
        folder: an existing folder; files of the same names are replaced.
    """
    dice = Dice(seed=7)
    grammar = _read_grammar(_HERE / "grammar.txt")
    used = {word.lower() for lines in grammar.values() for line in lines for word in re.findall(r"[\w']+", line)}
    used |= {word.lower() for word in GENERIC}
    for split, size in _SENTENCES.items():
        documents: list[list[_Sentence]] = []
        while sum(map(len, documents)) < size:
            documents.append(_document(grammar, dice=dice, names=Names(dice, used=used)))
        _write(folder / f"{split}.conll", "".join(map(_conll, documents)))
        if split == "train":
            pieces = _word_pieces(pair for document in documents for sentence in document for pair in sentence)
            _write(folder / "vocab.txt", "".join(f"{piece}\n" for piece in pieces))
            _write(folder / "config.json", json.dumps(_bert(len(pieces)), indent=2) + "\n")
    _write(folder / "tokenizer_config.json", json.dumps(_TOKENIZER, indent=2) + "\n")


def _read_grammar(path: Path) -> dict[str, list[str]]:
    grammar: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = grammar[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            lines.append(line)
    return grammar


def _document(grammar: dict[str, list[str]], *, dice: Dice, names: Names) -> list[_Sentence]:
    lines = dice.shuffled(grammar[dice.one([kind for kind in grammar if kind not in ("any", "rare")])])
    prose = [line for line in lines if line[0] not in "!+"][: dice.between(6, 12)]
    prose += dice.shuffled(grammar["any"])[: dice.between(0, 3)]
    if dice.chance(0.02):
        prose.append(dice.one(grammar["rare"]))
    chosen = [line for line in lines if line[0] == "!"][:1] + dice.shuffled(prose)
    for line in [line for line in lines if line[0] == "+"][:1]:
        chosen += [line] * dice.between(3, 6)
    return [_sentence(line, dice=dice, names=names) for line in chosen]


def _sentence(line: str, *, dice: Dice, names: Names) -> _Sentence:
    chosen = re.sub(r"<([^>]*)>", lambda found: dice.one(found[1].split("|")), line)
    taken: set[str] = set()
    sentence: _Sentence = []
    for word in chosen.lstrip("!+").split():
        slot = re.fullmatch(r"{(\w+)}(\S*)", word)
        if slot is None:
            sentence.append((word, "O"))
        elif slot[1] in _NUMBERS:
            sentence += [(part, "O") for part in f"{_NUMBERS[slot[1]](dice)}{slot[2]}".split()]
        else:
            kind, parts = names.mention(slot[1], taken=taken)
            sentence += [(part, f"{'I' if position else 'B'}-{kind}") for position, part in enumerate(parts)]
    return [(word.upper(), tag) for word, tag in sentence] if line[0] == "!" else sentence


def _conll(document: Sequence[_Sentence]) -> str:
    sentences = ["".join(f"{word} {tag}\n" for word, tag in sentence) for sentence in document]
    return "\n".join(["-DOCSTART- O\n", *sentences]) + "\n"


def _word_pieces(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Pieces into which an unseen name falls so that its shape shows: characters, and endings that recur.

    Common words that name nothing stay whole; names never do, for they would be learned by heart.
    """
    generic = {word.lower() for word in GENERIC}
    words: Counter[str] = Counter()
    names: set[str] = set()
    for word, tag in pairs:
        parts = re.findall(r"\w+|[^\w\s]", word)  # as BERT splits words at punctuation
        if tag == "O" or word.lower() in generic:
            words.update(parts)
        else:
            names.update(parts)
    characters = sorted({character for word in [*words, *names] for character in word})
    bodies = [name[1:].lower() for name in names]
    endings = Counter(body[-size:] for body in bodies for size in range(2, 8) if len(body) >= size)
    parts_of = {ending[1:] for ending, count in endings.items() if count > 0.6 * endings[ending[1:]]}  # "urg" of "burg"
    syllables = Counter(found for body in bodies for found in re.findall("[aeiou]+[^aeiou]", body))
    counts = [*((piece, count) for piece, count in endings.items() if piece not in parts_of), *syllables.items()]
    common = {piece for piece, count in counts if count > len(names) / 150}
    inner = [f"##{form}" for piece in sorted(common) for form in (piece, piece.upper())]
    whole = sorted(word for word, count in words.items() if count > 2 and len(word) > 1 and not word.isdigit())
    return [*_SPECIAL, *characters, *(f"##{character}" for character in characters), *inner, *whole]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _bert(vocab_size: int) -> dict[str, object]:
    return {
        "architectures": ["BertForTokenClassification"],
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 256,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.05,
        "pad_token_id": 0,
    }


_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_TOKENIZER: dict[str, object] = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": False,
    "strip_accents": False,
    "model_max_length": 256,
}

if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]) if len(sys.argv) > 1 else _HERE)
