"""Encoder, cut and Collator: each word scored in exactly one window, whatever the lengths, windows and batches."""

import logging
from collections import Counter
from itertools import accumulate, chain, groupby, pairwise

import numpy as np
import pytest
import torch
from conftest import columns_of, tiny_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ner_lightning.encoding import IGNORE, Collator, Encoder, Piece, cut
from ner_lightning.errors import InputError
from ner_lightning.windows import Windows, offsets_of

LABELS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]  # CoNLL's order
NINE_WORDS = "Norvix shuns Velish plan to tax Ombrian turnips .".split()
NINE_TAGS = [3, 0, 7, 0, 0, 0, 7, 0, 0]
COLUMNS = ("input_ids", "labels", "word_index", "sentence_index", "document_index", "words_before", "length")
PADDED = ("input_ids", "attention_mask", "labels", "word_index", "sentence_index", "document_index")
NOTHING = "\u200b"  # a zero-width space, which BERT's normalizer deletes

quick = settings(deadline=None, max_examples=60)
words = st.one_of(st.sampled_from(["the", "began", "Arvenholm", "a-b", NOTHING]), st.text("abcZ9.-", min_size=1))
sentences = st.lists(st.lists(words, max_size=30), max_size=6)
lengths = st.integers(3, 24)


def word_pieces(vocabulary, *, unk_token="[UNK]"):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    ids = {piece: number for number, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *vocabulary])}
    pieces = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return BertTokenizerFast(tokenizer_object=pieces, do_lower_case=False, unk_token=unk_token)


@pytest.fixture(scope="module")
def nine_pieces():
    """A tokenizer that keeps eight of the nine words whole and splits the eighth in two."""
    return word_pieces([*(word for word in NINE_WORDS if word != "turnips"), "turn", "##ips", "a"])


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def encoder(tokenizer, *, max_seq_length=64, **options):
    return Encoder(tokenizer, labels=LABELS, max_seq_length=max_seq_length, **options)


def tag_some(sentences):
    return [[(7 * i + len(word)) % len(LABELS) for i, word in enumerate(words)] for words in sentences]


def scored(columns):
    """(position of the word, its first sub-word, its label) of every scored word, in the order of the windows."""
    rows = zip(columns["word_index"], columns["input_ids"], columns["labels"], strict=True)
    return [place for row in rows for place in zip(*row, strict=True) if place[0] >= 0]


# ---- the worked example of the tutorials


def test_worked_example_with_all_sub_words_labelled(nine_pieces):
    assert nine_pieces(NINE_WORDS, is_split_into_words=True).word_ids() == [None, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8, None]
    columns = columns_of(encoder(nine_pieces, label_all_tokens=True).encode([NINE_WORDS], [NINE_TAGS]))
    assert columns["labels"] == [[-100, 3, 0, 7, 0, 0, 0, 7, 0, 0, 0, -100]]


def test_worked_example_with_first_sub_words_labelled(nine_pieces):
    columns = columns_of(encoder(nine_pieces).encode([NINE_WORDS], [NINE_TAGS]))
    assert columns["labels"] == [[-100, 3, 0, 7, 0, 0, 0, 7, 0, -100, 0, -100]]
    assert columns["word_index"] == [[-1, 0, 1, 2, 3, 4, 5, 6, 7, -1, 8, -1]]
    assert columns["length"] == [12]


@pytest.mark.parametrize(("tag", "label"), list(enumerate([0, 2, 2, 4, 4, 6, 6, 8, 8])))
def test_further_sub_words_of_an_entity_are_inside_it(nine_pieces, tag, label):
    tags = [0] * 7 + [tag, 0]
    columns = columns_of(encoder(nine_pieces, label_all_tokens=True).encode([NINE_WORDS], [tags]))
    assert columns["labels"][0][8:10] == [tag, label]


def test_inside_is_found_by_name_in_any_order_of_labels(nine_pieces):
    shuffled = ["I-ORG", "O", "B-LOC", "B-ORG", "I-LOC"]
    encoder = Encoder(nine_pieces, labels=shuffled, max_seq_length=20, label_all_tokens=True)
    assert columns_of(encoder.encode([["turnips", "turnips", "turnips"]], [[3, 2, 1]]))["labels"] == [
        [IGNORE, 3, 0, 2, 4, 1, 1, IGNORE]
    ]


def test_further_sub_words_are_left_out_where_no_inside_label_exists(nine_pieces):
    encoder = Encoder(nine_pieces, labels=["O", "B-ORG"], max_seq_length=20, label_all_tokens=True)
    assert columns_of(encoder.encode([["turnips"]], [[1]]))["labels"] == [[IGNORE, 1, IGNORE, IGNORE]]


def test_labels_without_entities_are_repeated(nine_pieces):
    encoder = Encoder(nine_pieces, labels=["NN", "VB"], max_seq_length=20, label_all_tokens=True)
    assert columns_of(encoder.encode([["turnips"]], [[1]]))["labels"] == [[IGNORE, 1, 1, IGNORE]]


# ---- cut


def furthest_from_a_cut(sizes, windows):
    """For each word the window where it stands furthest from a cut, sub-word by sub-word; ties to the earlier."""
    owner = [word for word, size in enumerate(sizes) for _ in range(size)]
    first = [owner.index(word) for word in range(len(sizes))]
    winners = []
    for word, size in enumerate(sizes):
        distance = {}
        for number, window in enumerate(windows):
            inside = [place for place, of in enumerate(owner) if window.start <= of < window.end]
            if first[word] not in inside:
                continue
            before = sum(place < first[word] for place in inside) if window.start > 0 else 10**9
            behind = sum(place >= first[word] + size for place in inside) if window.end < len(sizes) else 10**9
            distance[number] = min(before, behind)
        winners.append(max(distance, key=lambda number: (distance[number], -number)))
    return winners


@st.composite
def sizes_and_capacity(draw):
    capacity = draw(st.integers(1, 20))
    return draw(st.lists(st.integers(1, capacity), max_size=40)), capacity, draw(st.integers(0, capacity // 2))


@settings(deadline=None, max_examples=300)
@given(sizes_and_capacity())
def test_each_word_is_scored_once_where_it_stands_furthest_from_a_cut(drawn):
    sizes, capacity, shared = drawn
    windows = cut(sizes, capacity, shared=shared)
    assert sorted(word for window in windows for word in range(window.first, window.last)) == list(range(len(sizes)))
    winners = furthest_from_a_cut(sizes, windows)
    assert all(
        winners[word] == number for number, window in enumerate(windows) for word in range(window.first, window.last)
    )


@settings(deadline=None, max_examples=300)
@given(sizes_and_capacity())
@example(([2, 3, 4, 2, 4, 3, 2, 2, 2, 1, 3, 4, 1, 2, 1, 1, 4, 2, 2, 2, 1, 3], 8, 4))  # a window would score no word
def test_windows_fit_go_from_left_to_right_and_each_scores_a_word(drawn):
    sizes, capacity, shared = drawn
    windows = cut(sizes, capacity, shared=shared)
    assert all(0 < sum(sizes[window.start : window.end]) <= capacity for window in windows)
    assert all(left.start < right.start and left.end < right.end for left, right in pairwise(windows))
    assert all(window.start <= window.first < window.last <= window.end for window in windows)


@settings(deadline=None, max_examples=100)
@given(sizes_and_capacity())
def test_a_sentence_that_fits_is_one_window(drawn):
    sizes, capacity, shared = drawn
    assert (len(cut(sizes, capacity, shared=shared)) <= 1) == (sum(sizes) <= capacity)


def test_windows_share_half_and_the_last_is_full():
    assert [window[:2] for window in cut([1] * 37, 16, shared=8)] == [(0, 16), (8, 24), (16, 32), (21, 37)]


def test_words_of_one_sub_word_keep_context_on_both_sides_of_a_cut():
    for window in cut([1] * 40, 16, shared=8):
        for word in range(window.first, window.last):
            assert window.start == 0 or word - window.start >= 4
            assert window.end == 40 or window.end - word >= 4


def test_a_file_without_a_blank_line_is_cut_in_time_that_grows_with_its_length():
    assert sum(window.last - window.first for window in cut([2] * 120_000, 30, shared=15)) == 120_000


# ---- Encoder.encode


@quick
@given(sentences=sentences, max_seq_length=lengths, label_all_tokens=st.booleans())
def test_every_word_is_scored_once_with_its_label(tokenizer, sentences, max_seq_length, label_all_tokens):
    gold = tag_some(sentences)
    encoded = encoder(tokenizer, max_seq_length=max_seq_length, label_all_tokens=label_all_tokens)
    columns = columns_of(encoded.encode(sentences, gold))
    flat = [tag for tags in gold for tag in tags]
    assert [(index, label) for index, _, label in sorted(scored(columns))] == list(enumerate(flat))


@quick
@given(sentences=sentences, max_seq_length=lengths)
def test_windows_are_within_the_limit_and_between_special_tokens(tokenizer, sentences, max_seq_length):
    columns = columns_of(encoder(tokenizer, max_seq_length=max_seq_length).encode(sentences, tag_some(sentences)))
    for ids, labels, index, length in zip(
        *(columns[name] for name in ("input_ids", "labels", "word_index", "length")), strict=True
    ):
        assert len(ids) == len(labels) == len(index) == length <= max_seq_length
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert (labels[0], labels[-1], index[0], index[-1]) == (IGNORE, IGNORE, -1, -1)


@quick
@given(sentences=sentences, max_seq_length=lengths)
def test_scored_places_hold_the_first_sub_word_of_their_word(tokenizer, sentences, max_seq_length):
    columns = columns_of(encoder(tokenizer, max_seq_length=max_seq_length).encode(sentences))
    flat = [word for words in sentences for word in words]
    for index, token, _ in scored(columns):
        alone = tokenizer([flat[index]], is_split_into_words=True, add_special_tokens=False).input_ids
        assert token == (alone[0] if alone else tokenizer.unk_token_id)


@quick
@given(sentences=sentences, max_seq_length=lengths, data=st.data())
def test_batches_joined_are_the_whole_encoded_at_once(tokenizer, sentences, max_seq_length, data):
    gold, whole = tag_some(sentences), encoder(tokenizer, max_seq_length=max_seq_length)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(sentences) - 1, 1)))))
    bounds = [0, *(place for place in cuts if place < len(sentences)), len(sentences)]
    first_words = [0, *accumulate(len(words) for words in sentences)]
    parts = {name: [] for name in COLUMNS}
    for start, end in pairwise(bounds):
        batch = columns_of(
            whole.encode(sentences[start:end], gold[start:end], first_word=first_words[start], first_sentence=start)
        )
        for name, values in batch.items():
            parts[name] += values
    assert parts == columns_of(whole.encode(sentences, gold))


@quick
@given(st.lists(st.text("abcZ9.-", min_size=1, max_size=4), min_size=1, max_size=12))
def test_a_short_sentence_is_what_the_tokenizer_makes_of_it(tokenizer, words):
    expected = tokenizer(words, is_split_into_words=True).input_ids
    assert columns_of(encoder(tokenizer).encode([words]))["input_ids"] == [expected]


def test_sentence_index_counts_sentences_without_words_too(tokenizer):
    columns = columns_of(encoder(tokenizer, max_seq_length=4).encode([["the"], [], ["a", "b", "c"]], first_sentence=10))
    assert [{*row} - {-1} for row in columns["sentence_index"]] == [{10}, {12}, {12}]


def test_a_sentence_without_words_gives_no_window(tokenizer):
    assert columns_of(encoder(tokenizer).encode([[], []])) == {name: [] for name in COLUMNS}


def test_no_sentences_give_no_window(tokenizer):
    assert columns_of(encoder(tokenizer).encode([])) == {name: [] for name in COLUMNS}


def test_without_tags_there_is_nothing_to_learn_and_all_to_score(tokenizer):
    columns = columns_of(encoder(tokenizer).encode([["the", "lake"]]))
    assert set(columns["labels"][0]) == {IGNORE}
    assert [index for index, _, _ in scored(columns)] == [0, 1]


def test_repeated_words_are_not_trained_on_twice(tokenizer):
    tags = [1] * 12
    columns = columns_of(encoder(tokenizer, max_seq_length=8, label_all_tokens=True).encode([["the"] * 12], [tags]))
    assert sum(columns["length"]) > 12 + 2 * len(columns["length"])  # windows do overlap
    assert sum(label != IGNORE for row in columns["labels"] for label in row) == 12


@pytest.mark.parametrize("word", [NOTHING, "", " ", "\x07", "\ufeff"])
def test_a_word_that_tokenises_to_nothing_is_unknown_and_scored(tokenizer, word):
    columns = columns_of(encoder(tokenizer).encode([["the", word, "."], [word]], [[0, 5, 0], [6]]))
    assert [label for _, _, label in scored(columns)] == [0, 5, 0, 6]
    assert columns["input_ids"][0][2] == columns["input_ids"][1][1] == tokenizer.unk_token_id


def test_white_space_inside_a_word_does_not_make_it_two(tokenizer):
    columns = columns_of(encoder(tokenizer).encode([["10\u00a0000", "a b"]], [[1, 2]]))
    assert [(index, label) for index, _, label in scored(columns)] == [(0, 1), (1, 2)]


def test_a_word_longer_than_a_window_is_cut_kept_and_reported_once(tokenizer, caplog):
    long = "z" * 30
    with caplog.at_level(logging.WARNING, "ner_lightning"):
        columns = columns_of(encoder(tokenizer, max_seq_length=10).encode([["the", long, "."]], [[0, 3, 0]]))
    assert [(index, label) for index, _, label in sorted(scored(columns))] == [(0, 0), (1, 3), (2, 0)]
    assert max(columns["length"]) == 10
    assert [record.getMessage() for record in caplog.records] == [
        f"the word {long!r} has 30 sub-words, a window holds 8: the rest of the word is not seen"
    ]


def test_a_word_that_just_fills_a_window_is_not_reported(tokenizer, caplog):
    encoder(tokenizer, max_seq_length=10).encode([["z" * 8]])
    assert not caplog.records


def test_a_long_sentence_is_not_reported(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    encoder(tiny_tokenizer()).encode([["the"] * 200])  # longer than the tokenizer's own limit of 64
    assert not caplog.records


def test_no_room_beside_the_special_tokens(tokenizer):
    with pytest.raises(InputError, match=r"max_seq_length=2 leaves no room for a word beside 2 special tokens"):
        encoder(tokenizer, max_seq_length=2)


def test_no_unknown_token_for_a_word_without_sub_words():
    tokenizer = word_pieces(["a"], unk_token=None)
    with pytest.raises(InputError, match=r"the word '\\u200b' has no sub-word, and the tokenizer has no unknown"):
        encoder(tokenizer).encode([[NOTHING]])


def test_a_tokenizer_without_special_tokens_has_the_whole_window_for_words():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    columns = columns_of(
        encoder(PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="?"), max_seq_length=1).encode([["a", "b"]])
    )
    assert columns["input_ids"] == [[1], [0]]
    assert columns["word_index"] == [[0], [1]]


# ---- align and fingerprint


def test_alignment_reads_sub_word_word_label(nine_pieces):
    assert encoder(nine_pieces, label_all_tokens=True).align(["Velish", "turnips"], [7, 3]) == [
        Piece("[CLS]", None, None),
        Piece("Velish", "Velish", "B-MISC"),
        Piece("turn", "turnips", "B-ORG"),
        Piece("##ips", "turnips", "I-ORG"),
        Piece("[SEP]", None, None),
    ]


def test_alignment_of_a_long_sentence_labels_each_word_once(tokenizer):
    words = [f"a{number}" for number in range(20)]
    pieces = encoder(tokenizer, max_seq_length=12).align(words, [1] * 20)
    assert sorted(piece.word for piece in pieces if piece.label) == sorted(words)
    assert sum(piece.token == "[CLS]" for piece in pieces) > 1


def test_alignment_shows_the_unknown_token_of_a_word_without_sub_words(tokenizer):
    assert Piece("[UNK]", NOTHING, "O") in encoder(tokenizer).align([NOTHING], [0])


@pytest.mark.parametrize(
    "other",
    [
        lambda: Encoder(tiny_tokenizer(), labels=LABELS[::-1], max_seq_length=64),
        lambda: encoder(tiny_tokenizer(), max_seq_length=63),
        lambda: encoder(tiny_tokenizer(), label_all_tokens=True),
        lambda: encoder(word_pieces(["a"])),
        lambda: encoder(with_unknown("[MASK]")),
    ],
    ids=["labels", "max_seq_length", "label_all_tokens", "tokenizer", "unk_token"],
)
def test_fingerprint_changes_with_what_decides_the_encoding(tokenizer, other):
    assert other().fingerprint() != encoder(tokenizer).fingerprint()


def test_fingerprint_changes_with_the_way_to_see_words(tokenizer):
    one = encoder(tokenizer)
    before = one.fingerprint()
    one._spaces = True
    assert one.fingerprint() != before


def with_unknown(token):
    tokenizer = tiny_tokenizer()
    tokenizer.unk_token = token
    return tokenizer


def test_fingerprint_stays_after_work_and_after_others_used_the_tokenizer():
    tokenizer = tiny_tokenizer()
    one = encoder(tokenizer)
    before = one.fingerprint()
    assert encoder(tiny_tokenizer()).fingerprint() == before
    one.encode([["the", "lake"] * 50])
    assert one.fingerprint() == before
    tokenizer(["the lake froze"], padding="max_length", truncation=True, max_length=5)
    assert one.fingerprint() == encoder(tokenizer).fingerprint() == before


def test_truncation_left_on_by_others_cuts_nothing():
    tokenizer = tiny_tokenizer()
    one = encoder(tokenizer)
    tokenizer(["the lake froze"], padding="max_length", truncation=True, max_length=3)
    assert columns_of(one.encode([["the"] * 10]))["length"] == [12]


# ---- sentences among their neighbours

NEIGHBOURS = ["document", "file", "centred"]


def documents_of(sentences, data):
    """Numbers of documents that rise, a new one here and there."""
    borders = data.draw(st.lists(st.booleans(), min_size=len(sentences), max_size=len(sentences)))
    return np.array([0, *accumulate(borders)][1:], dtype=np.int64)


@quick
@given(
    sentences=sentences,
    max_seq_length=st.integers(4, 24),
    label_all_tokens=st.booleans(),
    context=st.sampled_from(["document", "centred"]),
    data=st.data(),
)
def test_with_context_every_word_is_scored_once_in_a_window_of_its_document(
    tokenizer, sentences, max_seq_length, label_all_tokens, context, data
):
    gold, documents = tag_some(sentences), documents_of(sentences, data)
    one = encoder(tokenizer, max_seq_length=max_seq_length, label_all_tokens=label_all_tokens, context=context)
    windows = one.encode(sentences, gold, documents=documents)
    columns = columns_of(windows)
    assert max(columns["length"], default=0) <= max_seq_length
    flat = [(number, tag) for number, tags in enumerate(gold) for tag in tags]
    found = []
    for row, document in enumerate(columns["document_index"]):
        names = ("input_ids", "word_index", "sentence_index", "labels")
        places = list(zip(*(columns[name][row] for name in names), strict=True))
        assert len({*document} - {-1}) == 1
        assert [documents[sentence] if sentence >= 0 else -1 for _, _, sentence, _ in places] == document
        assert all(label == IGNORE for token, _, _, label in places if token == tokenizer.sep_token_id)
        found += [(word, (sentence, label)) for _, word, sentence, label in places if word >= 0]
    assert sorted(found) == list(enumerate(flat))


@quick
@given(sentences=sentences, data=st.data())
def test_with_context_a_window_is_what_the_tokenizer_makes_of_sentences_with_separators_between(
    tokenizer, sentences, data
):
    documents = documents_of(sentences, data)
    columns = columns_of(
        encoder(tokenizer, max_seq_length=5000, context="document").encode(sentences, documents=documents)
    )
    expected = []
    for document in sorted(set(documents.tolist())):
        chosen = [words for words, number in zip(sentences, documents, strict=True) if number == document and words]
        words = [word for each in chosen for word in [*each, "[SEP]"]][:-1]
        # where nothing is left of a word, the unknown token stands for it
        words = ["[UNK]" if word == NOTHING else word for word in words]
        if words:
            expected.append(tokenizer(words, is_split_into_words=True, verbose=False).input_ids)
    assert columns["input_ids"] == expected


@quick
@given(sentences=sentences, context=st.sampled_from(NEIGHBOURS), passage=st.integers(1, 4), data=st.data())
def test_with_context_parts_joined_are_the_whole_encoded_at_once(tokenizer, sentences, context, passage, data):
    documents, whole = documents_of(sentences, data), encoder(tokenizer, max_seq_length=12, context=context)
    sources = documents // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ner_lightning.encoding._PASSAGE", passage)  # so that some documents are longer
        parts = {name: [] for name in COLUMNS}
        start = end = 0
        while start < len(sentences):
            end = min(end + data.draw(st.integers(1, 3)), len(sentences))
            last = end == len(sentences)
            count = end - start if last else whole.whole_passages(documents[start:end], sources[start:end])
            numbers = {"first_word": sum(map(len, sentences[:start])), "first_sentence": start}
            chosen = slice(start, start + count)
            columns = {"documents": documents[chosen], "sources": sources[chosen]}
            batch = columns_of(whole.encode(sentences[chosen], **columns, **numbers))
            for name, values in batch.items():
                parts[name] += values
            start += count
        assert parts == columns_of(whole.encode(sentences, documents=documents, sources=sources))


@quick
@given(
    sentences=st.lists(st.lists(st.sampled_from(["the", "turnips"]), max_size=9), max_size=9),
    max_seq_length=st.integers(10, 30),
    data=st.data(),
)
def test_a_centred_window_is_a_sentence_in_the_middle_of_its_document(tokenizer, sentences, max_seq_length, data):
    documents, capacity = documents_of(sentences, data), max_seq_length - 2
    whole = columns_of(
        encoder(tokenizer, max_seq_length=5000, context="document").encode(sentences, documents=documents)
    )
    texts = {document[1]: ids[1:-1] for document, ids in zip(whole["document_index"], whole["input_ids"], strict=True)}
    begins = {n: row.index(n) - 1 for row in whole["sentence_index"] for n in {*row} - {-1}}
    sizes = Counter(chain.from_iterable(whole["sentence_index"]))
    found = columns_of(
        encoder(tokenizer, max_seq_length=max_seq_length, context="centred").encode(sentences, documents=documents)
    )
    scored = []
    for ids, of, words, row in zip(
        *(found[name] for name in ("input_ids", "sentence_index", "word_index", "document_index")), strict=True
    ):
        (number,) = {sentence for sentence, word in zip(of, words, strict=True) if word >= 0}
        scored.append(number)
        if sizes[number] > capacity:
            continue  # cut as a lone sentence is
        text, inner = texts[row[1]], ids[1:-1]
        start = begins[number] - of[1:-1].index(number)
        end = start + len(inner)
        assert text[start:end] == inner
        assert end >= begins[number] + sizes[number]
        assert len(inner) > min(capacity, len(text)) - 2 * 7  # no room is left but for a word on each side
        if start > 0 and end < len(text):
            assert begins[number] - start <= (capacity - sizes[number]) / 2
    assert [number for number, _ in groupby(scored)] == [number for number, words in enumerate(sentences) if words]


def test_context_of_a_file_crosses_documents(tokenizer):
    windows = encoder(tokenizer, context="file").encode([["the"], ["the"]], documents=np.array([4, 7]))
    assert len(windows) == 1
    assert windows.document_index.tolist() == [-1, 4, 4, 7, -1]  # the separator is the last of its sentence


@quick
@given(sentences=sentences, context=st.sampled_from(["sentence", *NEIGHBOURS]), data=st.data())
def test_no_window_holds_sentences_of_two_files(tokenizer, sentences, context, data):
    sources, one = documents_of(sentences, data), encoder(tokenizer, max_seq_length=12, context=context)
    documents = np.arange(len(sources)) // 2 + 100 * sources
    whole = one.encode(sentences, documents=documents, sources=sources)
    parts, found = {name: [] for name in COLUMNS}, []
    for source in sorted(set(sources.tolist())):
        first, last = np.searchsorted(sources, [source, source + 1])
        numbers = {"first_word": sum(map(len, sentences[:first])), "first_sentence": int(first)}
        alone = one.encode(sentences[first:last], documents=documents[first:last], **numbers)
        for name, values in columns_of(alone).items():
            parts[name] += values
        found += [source] * len(alone)
    assert columns_of(whole) == parts
    assert whole.source_index.tolist() == found


def test_without_a_separator_sentences_follow_each_other():
    bare = tiny_tokenizer()
    bare.sep_token = None
    (ids,) = columns_of(encoder(bare, context="file").encode([["the"], ["the"]]))["input_ids"]
    assert len(ids) == 4


def test_a_word_leaves_room_for_the_separator_behind_it(tokenizer):
    windows = encoder(tokenizer, max_seq_length=10, context="file").encode([["z" * 30], ["the"]])
    assert windows.lengths.max() <= 10
    assert windows.scored.sum() == 2


# ---- Collator

TWO = Windows(
    input_ids=np.array([2, 7, 8, 3, 2, 7, 3]),
    labels=np.array([IGNORE, 1, IGNORE, IGNORE, IGNORE, 4, IGNORE]),
    scored=np.array([0, 1, 0, 0, 0, 1, 0], dtype=bool),
    sentence_index=np.array([-1, 3, 3, -1, -1, 4, -1]),
    document_index=np.array([-1, 1, 1, -1, -1, 1, -1]),
    offsets=np.array([0, 4, 7]),
    first_word=np.array([5, 6]),
    words_before=np.array([0, 2]),
    source_index=np.array([1, 0]),
)


def collator(**options):
    return Collator(**{"num_words": 9, "pad_token_id": 77, "multiple": 1, "max_seq_length": 64} | options)


def test_rows_are_padded_to_the_longest():
    batch = collator()(TWO)
    assert batch["num_words"] == 9
    assert {name: value.tolist() for name, value in batch.items() if name != "num_words"} == {
        "input_ids": [[2, 7, 8, 3], [2, 7, 3, 77]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
        "labels": [[IGNORE, 1, IGNORE, IGNORE], [IGNORE, 4, IGNORE, IGNORE]],
        "word_index": [[-1, 5, -1, -1], [-1, 6, -1, -1]],
        "sentence_index": [[-1, 3, 3, -1], [-1, 4, -1, -1]],
        "document_index": [[-1, 1, 1, -1], [-1, 1, -1, -1]],
        "words_before": [0, 2],
    }


def test_what_an_o_may_stand_for_is_that_of_the_file_of_each_window():
    table = np.array([[True, False, False], [True, False, True]])
    assert collator(meant_by_o=table)(TWO)["meant_by_o"].tolist() == [[True, False, True], [True, False, False]]


def test_all_tensors_are_int64():
    assert {value.dtype for value in collator()(TWO).values() if isinstance(value, torch.Tensor)} == {torch.int64}


@quick
@given(row_lengths=st.lists(st.integers(3, 64), min_size=1, max_size=5), multiple=st.sampled_from([1, 8, 16]))
def test_length_is_the_next_multiple_within_the_limit(row_lengths, multiple):
    ones, zeros = np.ones(sum(row_lengths), dtype=bool), np.zeros(len(row_lengths))
    rows = Windows(ones, ones, ones, ones, ones, offsets_of(row_lengths), zeros, zeros, zeros)
    batch = collator(multiple=multiple, max_seq_length=61)(rows)
    width, longest = batch["input_ids"].shape[1], max(row_lengths)
    fitting = [n for n in range(longest, longest + multiple) if n % multiple == 0 and n <= 61]
    assert width == (fitting[0] if fitting else max(longest, 61))
    assert batch["attention_mask"].sum(dim=1).tolist() == row_lengths
    assert {tuple(batch[name].shape) for name in PADDED} == {(len(row_lengths), width)}


@pytest.mark.parametrize("multiple", [1, 8])
def test_padding_does_not_change_the_logits_of_scored_words(tiny_model, tokenizer, multiple):
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_pretrained(tiny_model, num_labels=len(LABELS)).eval()
    collate = collator(pad_token_id=tokenizer.pad_token_id, multiple=multiple, max_seq_length=24)

    def logits(windows):
        batch = collate(windows)
        with torch.no_grad():
            output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        index = batch["word_index"]
        return dict(zip(index[index >= 0].tolist(), output[index >= 0], strict=True))

    windows = encoder(tokenizer, max_seq_length=24).encode([["Mira"], ["the", "lake"], ["Arvenholm", "froze"] * 8])
    assert len(windows) > 3  # the third sentence has several
    together, apart = logits(windows), {}
    for number in range(len(windows)):
        apart |= logits(windows[[number]])
    assert sorted(together) == sorted(apart) == list(range(19))
    for word, values in together.items():
        torch.testing.assert_close(values, apart[word], atol=1e-5, rtol=0)


# ---- tokenizers of other kinds

CORPUS = [
    "Mira Toll left Arvenholm on the 12th.",
    "R2D2, don't (stop) 中國 at 9.5 km/h …",
    "Edda of Pell Union won",
] * 3
plain = st.text("abcMZ9 .,-()'é中\t\u3000\x0b\x85\u200b", max_size=40)


def byte_level(*, trim_offsets):
    """A tokenizer as RoBERTa's: no normalizer, spaces in front of the sub-words, bytes for what is rare."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    pieces.train_from_iterator(CORPUS, trainer)
    pieces.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=trim_offsets)
    return PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")


def sentence_piece():
    """A tokenizer as XLM-R's: words cut at spaces alone, a sign of their start that may be a sub-word of its own."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.Unigram())
    pieces.normalizer = normalizers.NFKC()
    pieces.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    pieces.train_from_iterator(CORPUS, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")


def spaces_split_off(*, trim_offsets):
    """A tokenizer as Llama 3's: what a pattern splits off is made bytes, a space before digits alone."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    pieces.train_from_iterator(CORPUS, trainer)
    pieces.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    return PreTrainedTokenizerFast(tokenizer_object=pieces)


def byte_fallback():
    """A tokenizer as Gemma's: a space is a sign like others, and a rare character the pieces of its bytes."""
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*special, "▁", *"abcMZ9.,-'", "▁a", "ab", "▁M"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return GemmaTokenizer(vocab=vocabulary, merges=[("▁", "a"), ("a", "b"), ("▁", "M")])


@pytest.fixture(scope="module")
def tokenizers(tokenizer):
    return {
        "word pieces": tokenizer,
        "bytes": byte_level(trim_offsets=True),
        "bytes, whole": byte_level(trim_offsets=False),
        "sentence pieces": sentence_piece(),
        "spaces split off": spaces_split_off(trim_offsets=False),
        "spaces split off, trimmed": spaces_split_off(trim_offsets=True),
        "byte fallback": byte_fallback(),
    }


KINDS = [
    "word pieces",
    "bytes",
    "bytes, whole",
    "sentence pieces",
    "spaces split off",
    "spaces split off, trimmed",
    "byte fallback",
]
SPACES = KINDS[4:]  # words are given the space before them


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(st.lists(st.text("abcMZ9é.-'中1", min_size=1, max_size=6), min_size=1, max_size=8))
@example(["It", "'s", "1996-08-24", ",", "don't", "9.5", "é", "中"])
def test_words_have_the_sub_words_of_the_text_that_they_make(tokenizers, kind, words):
    (ids,) = columns_of(encoder(tokenizers[kind], max_seq_length=400).encode([words]))["input_ids"]
    assert ids == tokenizers[kind](" ".join(words)).input_ids


@pytest.mark.parametrize("kind", SPACES)
@quick
@example([""], 24)
@given(st.lists(st.text(" \tab9é\x07\u200b\u0301\U0001f642", max_size=4), min_size=1, max_size=8), lengths)
def test_every_word_is_scored_once_where_words_have_their_spaces(tokenizers, kind, words, max_seq_length):
    columns = columns_of(encoder(tokenizers[kind], max_seq_length=max_seq_length).encode([words], [[1] * len(words)]))
    assert sorted(index for index, _, _ in scored(columns)) == list(range(len(words)))
    assert {label for _, _, label in scored(columns)} == {1}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("label_all_tokens", [False, True])
def test_a_space_that_is_a_sub_word_is_not_what_is_scored(tokenizers, kind, label_all_tokens):
    tokenizer = tokenizers[kind]
    columns = columns_of(encoder(tokenizer, label_all_tokens=label_all_tokens).encode([["M", "9", "a"]], [[1, 5, 0]]))
    (space,) = tokenizer(" ", add_special_tokens=False).input_ids
    (nine,) = tokenizer("9", add_special_tokens=False).input_ids
    ids, labels, index = (columns[name][0] for name in ("input_ids", "labels", "word_index"))
    place = ids.index(space)
    assert ids[place + 1] == nine
    assert labels[place : place + 2] == [IGNORE, 5]
    assert index[place : place + 2] == [-1, 1]


def test_only_some_of_many_long_words_are_told(tokenizer, caplog):
    encoder(tokenizer, max_seq_length=10).encode([[f"z{number:030}"] for number in range(50)])
    assert 5 < len(caplog.records) < 50
