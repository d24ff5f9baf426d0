"""Constrained decoding against brute force over all sequences, and what comes out of windows: never an invalid tag."""

from itertools import groupby, product

import pytest
import torch
from conftest import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.decoding import Grammar, argmax, default_decoding
from ner_lightning.encoding import Collator, Encoder
from ner_lightning.errors import InputError
from ner_lightning.metrics import EntityScore
from ner_lightning.model import TokenClassificationModule

LABELS = ["I-PER", "O", "B-LOC", "I-LOC", "B-PER"]  # in no order that a list of labels usually has
quick = settings(deadline=None, max_examples=100)


def is_valid(tags, *, before=None):
    """Read word by word; `before` is the tag of the word before, None at the start of a sentence."""
    for tag in tags:
        if tag.startswith("I-") and (before is None or before[1:] != tag[1:] or before[0] not in "BI"):
            return False
        before = tag
    return True


def best_of_all(logits, *, goes_on):
    """The highest total of any valid sequence, behind any tag where a window goes on with a sentence."""
    rows = logits.log_softmax(-1).tolist()
    befores = [None] if not goes_on else LABELS
    return max(
        sum(row[LABELS.index(tag)] for row, tag in zip(rows, tags, strict=True))
        for tags in product(LABELS, repeat=len(rows))
        if any(is_valid(tags, before=before) for before in befores)
    )


@st.composite
def batches(draw):
    """Windows of up to four words with other positions around, and logits that often tie."""
    windows = draw(st.lists(st.lists(st.booleans(), min_size=1, max_size=7).filter(any), min_size=1, max_size=4))
    windows = [[scored and sum(row[: i + 1]) <= 4 for i, scored in enumerate(row)] for row in windows]
    length = max(map(len, windows))
    scored = torch.tensor([row + [False] * (length - len(row)) for row in windows])
    index = torch.where(scored, scored.flatten().cumsum(0).view_as(scored) - 1, -1)
    before = draw(st.lists(st.sampled_from([0, 3]), min_size=len(windows), max_size=len(windows)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits = torch.randint(-2, 3, (*scored.shape, len(LABELS)), generator=generator).float()
    if draw(st.booleans()):
        logits += torch.randn(logits.shape, generator=generator)
    sentences = torch.arange(len(windows))[:, None].expand_as(index)
    batch = {"word_index": index, "sentence_index": sentences, "words_before": torch.tensor(before)}
    return batch, logits


@quick
@given(batches())
def test_the_labels_of_a_window_are_the_best_of_all_valid_ones(drawn):
    batch, logits = drawn
    label_ids = Grammar(LABELS).decode(batch, logits)
    assert label_ids.shape == logits.shape[:2]
    for row, ids, index, before in zip(logits, label_ids, batch["word_index"], batch["words_before"], strict=True):
        words = row[index >= 0]
        tags = [LABELS[i] for i in ids[index >= 0].tolist()]
        assert any(is_valid(tags, before=tag) for tag in (LABELS if before else [None]))
        total = words.log_softmax(-1).gather(1, ids[index >= 0][:, None]).sum()
        assert total.item() == pytest.approx(best_of_all(words, goes_on=bool(before)), abs=1e-4)


@quick
@given(batches())
def test_where_the_most_probable_labels_are_valid_it_is_these(drawn):
    batch, logits = drawn
    label_ids, probable = Grammar(LABELS).decode(batch, logits), argmax(batch, logits)
    for ids, others, index, before in zip(label_ids, probable, batch["word_index"], batch["words_before"], strict=True):
        tags = [LABELS[i] for i in others[index >= 0].tolist()]
        if any(is_valid(tags, before=tag) for tag in (LABELS if before else [None])):
            assert torch.equal(ids, others)


@quick
@given(drawn=batches(), split=st.integers(1, 3))
def test_a_window_is_decoded_alike_in_any_batch_and_precision(drawn, split):
    batch, logits = drawn
    logits = logits.bfloat16()
    grammar = Grammar(LABELS)
    parts = zip(*(values.split(split) for values in (*batch.values(), logits)), strict=True)
    apart = [grammar.decode(dict(zip(batch, part, strict=False)), part[-1]) for part in parts]
    scored = batch["word_index"] >= 0
    assert torch.equal(torch.cat(apart)[scored], grammar.decode(batch, logits)[scored])


@quick
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    max_seq_length=st.integers(4, 20),
    size=st.integers(1, 5),
    context=st.sampled_from(["sentence", "file"]),
    seed=st.integers(0, 2**32),
)
def test_what_comes_out_of_windows_is_never_invalid(encoder, sizes, max_seq_length, size, context, seed):
    generator = torch.Generator().manual_seed(seed)
    words = [["ab", "Mira", "the"][i] for i in torch.randint(3, (sum(sizes),), generator=generator).tolist()]
    sentences, grammar = [words[: sum(sizes[:i])][-n:] if n else [] for i, n in enumerate(sizes, 1)], Grammar(LABELS)
    windows = encoder(max_seq_length, context).encode(sentences)
    collate = Collator(num_words=len(words), pad_token_id=0, multiple=1, max_seq_length=64)
    score = EntityScore(LABELS, mend=grammar.mend)
    label_ids, sentence_index = torch.full((len(words),), -1), torch.full((len(words),), -1)
    probable = torch.zeros(len(words), len(LABELS))
    for numbers in torch.randperm(len(windows), generator=generator).split(size):
        batch = collate(windows[numbers.numpy()])
        logits = torch.randn(*batch["word_index"].shape, len(LABELS), generator=generator)
        scored = batch["word_index"] >= 0
        place = batch["word_index"][scored]
        sentence_index[place] = batch["sentence_index"][scored]
        label_ids[place], probable[place] = grammar.decode(batch, logits)[scored], logits[scored]
        score.update(place, label_ids[place], torch.full_like(place, 1), sentence_index[place], len(words))
    mended = grammar.mend(label_ids, sentence_index)
    for _, group in groupby(range(len(words)), key=lambda word: int(sentence_index[word])):
        places = list(group)
        tags = [LABELS[i] for i in mended[places].tolist()]
        assert is_valid(tags)
        if is_valid(likely := [LABELS[i] for i in probable[places].argmax(-1).tolist()]):
            assert tags == likely
    assert score.compute()["precision"] == 0  # all gold labels are O
    assert score.compute()["accuracy"] == pytest.approx((mended == 1).float().mean().item())


@pytest.fixture(scope="module")
def encoder():
    tokenizer = tiny_tokenizer()
    return lambda length, context: Encoder(tokenizer, labels=LABELS, max_seq_length=length, context=context)


def test_what_is_mended_is_what_conlleval_reads():
    tags = ["B-LOC", "I-PER", "I-PER", "O", "I-LOC", "I-LOC", "B-PER", "I-PER"]
    ids, sentences = torch.tensor([LABELS.index(tag) for tag in tags]), torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    mended = [LABELS[i] for i in Grammar(LABELS).mend(ids, sentences).tolist()]
    assert mended == ["B-LOC", "B-PER", "I-PER", "O", "B-LOC", "B-LOC", "B-PER", "I-PER"]


def test_a_batch_without_a_scored_word_stays():
    batch = {name: torch.tensor([values]) for name, values in (("word_index", [-1]), ("sentence_index", [-1]))}
    batch["words_before"] = torch.tensor([0])
    assert Grammar(LABELS).decode(batch, torch.tensor([[[1.0, 0, 0, 0, 0]]])).tolist() == [[0]]
    nothing = torch.zeros(0, dtype=torch.int64)
    assert Grammar(LABELS).mend(nothing, nothing).tolist() == []


@pytest.mark.parametrize("labels", [["DET", "NOUN"], ["O"], ["O", "I-PER"], ["O", "B-PER", "S-PER"]])
def test_labels_without_entities_are_refused(labels):
    message = (
        r"^--model.decoding=constrained: it takes labels that mark entities, a B- for each I-, and these do not \("
    )
    with pytest.raises(InputError, match=message):
        Grammar(labels)


def test_labels_that_mark_entities_are_constrained_unless_it_is_said_otherwise(tiny_model):
    assert default_decoding(LABELS) == "constrained"
    assert {default_decoding(labels) for labels in (["DET", "NOUN"], ["O"], ["O", "I-PER"])} == {"argmax"}
    for asked, known in ((None, "constrained"), ("argmax", "argmax")):
        model = TokenClassificationModule(str(tiny_model), labels=LABELS, decoding=asked)
        assert model.hparams["decoding"] == known
        assert (model.grammar is not None) == (known == "constrained")
