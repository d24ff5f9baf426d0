"""What the checks of `inspect` find, against faults that were planted and against sets of texts."""

import random
from collections import Counter
from itertools import combinations

import pytest

from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.reports.checks import check_corpus, findings_text
from ner_lightning.tags import entities

SPLITS = ("train", "validation", "test")


def clean(split):
    """Sentences with two types, names that come once, and marks where they may stand."""
    for number in range(60):
        name = f"{split}{number}"
        yield [
            (f"Mira{name}", "B-PER"),
            ("Jr", "I-PER"),
            (".", "I-PER"),
            ("left", "O"),
            (f"Toll{name}", "B-LOC"),
            (".", "O"),
        ]
    yield [("Quill", "B-LOC"), ("(", "I-LOC"), (split, "I-LOC"), (")", "I-LOC"), ("grew", "O"), ("5", "O"), ("%", "O")]
    yield [("It", "O"), ("was", "O"), ("naïve", "O"), ("À", "O"), ("«", "O"), ("là", "O"), ("»", "O"), ("日本", "O")]


@pytest.fixture
def check(tmp_path, tiny_model):
    """Write a corpus and check it."""

    def run(corpus, **options):
        for split, sentences in corpus.items():
            text = "\n\n".join("\n".join(f"{word} {tag}" for word, tag in one) for one in sentences) + "\n"
            (tmp_path / f"{split}.conll").write_text(text, encoding="utf-8", newline="")
        files = {f"{split}_file": str(tmp_path / f"{split}.conll") for split in corpus}
        data = TokenClassificationDataModule(model_name_or_path=str(tiny_model), **files, **options)
        return check_corpus(data)

    return run


@pytest.fixture
def corpus():
    return {split: list(clean(split)) for split in SPLITS}


def worries(findings):
    """Those that are a reason to look."""
    return {one.check: one for one in findings if one.worry != "no"}


def line(corpus, split, number, word=0):
    """Where a word of the n-th sentence stands."""
    return f"{split}.conll:{sum(len(one) + 1 for one in corpus[split][:number]) + word + 1}"


def test_nothing_is_found_in_a_clean_corpus(check, corpus):
    findings = check(corpus)
    assert not worries(findings)
    assert {one.text.split(" (")[0] for one in findings} == {"0 of 121"}
    assert "nothing found of: repeated sentences, sentences of two splits, contradictions" in findings_text(findings)


def again(corpus):
    corpus["train"].append(corpus["train"][0])
    return "repeated sentences", [line(corpus, "train", 62)], 1


def leaked(corpus):
    corpus["test"].append(corpus["train"][3])
    return "sentences of two splits", [line(corpus, "test", 62)], 1


def contradicted(corpus):
    corpus["test"].append([(word, "O") for word, _ in corpus["train"][3]])
    return "contradictions", [line(corpus, "test", 62)], 1


def ambiguous(corpus):
    corpus["train"] += [[("Brask", "B-LOC"), ("shone", "O"), (str(number), "O")] for number in range(5)]
    corpus["validation"].append([("So", "O"), ("Brask", "B-PER"), ("won", "O")])
    return "several types", [line(corpus, "validation", 62, 1), line(corpus, "train", 62)], 1


def rare(corpus):
    for split in SPLITS:
        corpus[split].append([("The", "O"), (f"Cup{split}", "B-MISC")])
    return "rare types", [line(corpus, "train", 62, 1)], 1


def missing(corpus):
    corpus["train"] += [[("Cup", "B-MISC"), ("won", "O"), (str(number), "O")] for number in range(60)]
    return "missing types", [line(corpus, "train", 62), line(corpus, "train", 63), line(corpus, "train", 64)], 2


def loose(corpus):
    corpus["validation"] += [
        [("to", "O"), ("Mirael", "B-PER"), (",", "I-PER")],
        [('"', "B-PER"), ("Edda", "I-PER"), ("!", "O")],
        [("(", "B-LOC"), ("Velan", "I-LOC"), (")", "I-LOC")],
    ]
    return "punctuation", [line(corpus, "validation", 62, 1), *(line(corpus, "validation", n) for n in (63, 64))], 3


def long(corpus):
    corpus["test"].append([(letter, "O") for letter in "abcdefgh" * 20])
    return "long sentences", [line(corpus, "test", 62)], 1


def encoded(word, rest="."):
    def plant(corpus):
        corpus["validation"].append([("the", "O"), (word, "O"), (rest, "O")])
        return "encoding", [line(corpus, "validation", 62)], 1

    return plant


FAULTS = {
    **{plant.__name__: plant for plant in (again, leaked, contradicted, ambiguous, rare, missing, loose, long)},
    "utf-8 as cp1252": encoded("café".encode().decode("cp1252")),
    "a quote in pieces": encoded("â€", "™s"),
    "utf-8 as latin-1": encoded("“Toll”".encode().decode("latin-1")),
    "cyrillic": encoded("мир".encode().decode("latin-1")),
    "emoji": encoded("🙂".encode().decode("cp1252", "replace").replace("\ufffd", "\x99")),
    "lost": encoded("caf\ufffd"),
    "mark": encoded("Mira\ufeff"),
    "nul": encoded("Mi\x01ra"),
    "decomposed": encoded("cafe\u0301"),
}


@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_where_it_stands(check, corpus, plant):
    name, places, count = plant(corpus)
    found = worries(check(corpus))
    assert set(found) == {name}
    assert found[name].count == count
    assert [one["place"].rsplit("/")[-1] for one in found[name].examples] == places


def test_nul_behind_the_head_of_a_file_is_found(check, corpus):
    corpus["train"].append([(letter * 200, "O") for letter in "abcdefgh" * 50])
    corpus["train"].append([("Mi\0ra", "O"), ("left", "O")])
    found = worries(check(corpus, max_seq_length=64))
    assert "control characters" in found["encoding"].text


def test_a_type_that_train_lacks_is_a_worry(check, corpus):
    corpus["test"].append([("The", "O"), ("Cup", "B-MISC")])
    (found,) = [one for one in check(corpus, labels="all") if one.check == "missing types"]
    assert found.worry == "yes"
    assert "MISC is in test, but not in train and validation: it cannot be learnt" in found.text


def test_words_with_labels_have_no_entities_to_check(check, corpus):
    plain = {name: [[(word, "X") for word, _ in one] for one in sentences] for name, sentences in corpus.items()}
    found = check(plain, scheme="plain")
    assert {one.check for one in found} == {"sentences of two splits"}


def test_counts_are_those_of_sets(check):
    """Against texts in sets, on sentences that come again and again."""
    chance = random.Random(0)
    words, tags = ["a", "b", "Mira", "Toll"], ["O", "B-PER", "B-LOC"]
    corpus = {
        split: [
            [(chance.choice(words), chance.choice(tags)) for _ in range(chance.choice([1, 2, 5]))] for _ in range(300)
        ]
        for split in SPLITS
    }
    found = {}
    for one in check(corpus):
        found.setdefault(one.check, []).append((one.count, one.total))

    def text(sentence):
        return " ".join(word for word, _ in sentence)

    def names(split):
        for sentence in corpus[split]:
            for type_, first, last in entities([tag for _, tag in sentence]):
                yield text(sentence[first:last]), type_

    long = {
        split: [text(one) for one in corpus[split] if len(one) == 5 and any(tag != "O" for _, tag in one)]
        for split in SPLITS
    }
    assert Counter(found["repeated sentences"]) == Counter((len(v) - len(set(v)), len(v)) for v in long.values())
    shared = [
        (sum(s in set(long[one]) for s in long[other]), len(long[other])) for one, other in combinations(SPLITS, 2)
    ]
    assert Counter(found["sentences of two splits"]) == Counter(shared)
    known = {form for form, _ in names("train")}
    seen = [(sum(form in known for form, _ in names(s)), len(list(names(s)))) for s in SPLITS[1:]]
    assert Counter(found["seen entities"]) == Counter(seen)
    types = Counter(form for form, _ in {pair for split in SPLITS for pair in names(split)})
    assert found["several types"] == [(sum(n > 1 for n in types.values()), len(types))]
    first, other = {}, 0
    for sentence in (one for split in SPLITS for one in corpus[split]):
        other += first.setdefault(text(sentence), sentence) != sentence
    assert found["contradictions"] == [(other, 900 - len(first))]
