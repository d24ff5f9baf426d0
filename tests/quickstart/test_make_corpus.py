import json
from itertools import pairwise

import pytest

from ner_lightning.quickstart import FOLDER, packaged
from ner_lightning.readers import read
from ner_lightning.tags import detect_scheme, entities, label_list
from quickstart.invented_names import GENERIC
from quickstart.make_corpus import write_corpus

SPLITS = ("train", "validation", "test")
GENERIC_WORDS = {word.lower() for word in GENERIC}


@pytest.fixture(scope="module")
def corpus():
    return {split: list(read(FOLDER / f"{split}.conll")) for split in SPLITS}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(packaged("ner_lightning/quickstart"), local_files_only=True)


def names(sentences):
    return {tuple(s.words[e.start : e.end]) for s in sentences for e in entities(s.tags)}


def name_words(sentences):
    words = {word.lower() for name in names(sentences) for word in name} - GENERIC_WORDS
    return {word for word in words if len(word) > 2}  # without initials: "J."


def test_the_generator_writes_the_same_bytes_again(tmp_path):
    write_corpus(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {
        "train.conll",
        "validation.conll",
        "test.conll",
        "vocab.txt",
        "config.json",
        "tokenizer_config.json",
    }
    assert written == {name: (FOLDER / name).read_bytes() for name in written}


def test_sizes(corpus):
    assert 3600 <= len(corpus["train"]) < 3700
    assert all(400 <= len(corpus[split]) < 500 for split in ("validation", "test"))
    assert sum(path.stat().st_size for path in FOLDER.glob("*.conll")) < 500_000


def test_tags_are_well_formed_iob2(corpus):
    for sentences in corpus.values():
        assert detect_scheme([s.tags for s in sentences]) == ("IOB2", None)
        for s in sentences:
            for before, tag in pairwise(["O", *s.tags]):
                assert not tag.startswith("I-") or before in (f"B-{tag[2:]}", tag)


def test_each_split_has_the_four_types(corpus):
    expected = ["O", *(f"{prefix}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for prefix in "BI")]
    for sentences in corpus.values():
        assert label_list(tag for s in sentences for tag in s.tags) == expected


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_name_and_no_name_word_is_known_from_train(corpus, split):
    assert not names(corpus["train"]) & names(corpus[split])
    assert not name_words(corpus["train"]) & name_words(corpus[split])


def test_validation_and_test_share_no_name(corpus):
    assert not name_words(corpus["validation"]) & name_words(corpus["test"])


def test_there_are_names_side_by_side_names_of_two_types_and_sentences_without(corpus):
    sentences = corpus["train"]
    spans = [entities(s.tags) for s in sentences]
    assert any(a.end == b.start for found in spans for a, b in pairwise(found))
    assert any(not found for found in spans)
    kinds = {}
    for s, found in zip(sentences, spans, strict=True):
        for e in found:
            kinds.setdefault(s.words[e.end - 1], set()).add(e.type)
    assert {"LOC", "ORG", "PER"} in kinds.values()


def test_the_tokenizer_is_fast_and_fits_the_configuration(tokenizer):
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert tokenizer.is_fast
    assert len(tokenizer) == config["vocab_size"]
    assert tokenizer.model_max_length == config["max_position_embeddings"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_has_pieces_and_no_piece_is_unknown(corpus, tokenizer, split):
    encoded = tokenizer([s.words for s in corpus[split]], is_split_into_words=True)
    for row, s in enumerate(corpus[split]):
        assert {i for i in encoded.word_ids(row) if i is not None} == set(range(len(s.words)))
        assert tokenizer.unk_token_id not in encoded["input_ids"][row]


def test_no_name_is_a_single_piece(corpus, tokenizer):
    longer = {word for word in name_words(corpus["train"]) if len(word) > 3}
    assert not {word for word in longer if len(tokenizer.tokenize(word.capitalize())) == 1}


def test_names_of_the_package_are_found_and_others_stay():
    assert packaged("ner_lightning/quickstart") == str(FOLDER)
    assert packaged("ner_lightning/quickstart/train.conll") == str(FOLDER / "train.conll")
    assert packaged("ner_lightning/quickstarted") == "ner_lightning/quickstarted"
    assert packaged("some-user/some-model") == "some-user/some-model"
