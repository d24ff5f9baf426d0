"""EntityScore against seqeval and scikit-learn on the flat lists, and its freedom from order and place."""

import doctest
import json
import pickle
import warnings
from datetime import timedelta
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn.metrics import precision_recall_fscore_support

from ner_lightning import metrics
from ner_lightning.errors import InputError
from ner_lightning.intervals import f1_interval
from ner_lightning.metrics import EntityScore

CONLL = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
CREATIVE = ["O", "B-creative-work", "I-creative-work", "B-x", "I-x"]
POS = ["ADJ", "DET", "NOUN", "PUNCT", "VERB"]
ALL_RIGHT = {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def splits(labels, *, min_words=1):
    """Sentences of (gold id, predicted id) pairs."""
    label = st.integers(0, len(labels) - 1)
    sentence = st.lists(st.tuples(label, label), min_size=1, max_size=8)
    return st.lists(sentence, min_size=min_words, max_size=8)


def rows_of(sentences):
    """(word_index, prediction, target, sentence_index) of every word."""
    pairs = [(*word, number) for number, sentence in enumerate(sentences) for word in sentence]
    return [(i, predicted, gold, number) for i, (gold, predicted, number) in enumerate(pairs)]


def update(score, rows, num_words):
    columns = torch.tensor(rows, dtype=torch.int64).view(-1, 4).unbind(dim=1)
    score.update(*columns, num_words)


def scored(sentences, labels, **options):
    score = EntityScore(labels, **options)
    rows = rows_of(sentences)
    update(score, rows, len(rows))
    return score.compute()


def names_of(sentences, labels):
    gold = [[labels[g] for g, _ in sentence] for sentence in sentences]
    predicted = [[labels[p] for _, p in sentence] for sentence in sentences]
    return gold, predicted


SPLIT = [[(7, 7), (8, 8), (0, 0)], [(1, 1), (0, 5)], [(3, 4), (0, 0), (5, 5), (6, 0)]]


@pytest.mark.parametrize("labels", [CONLL, CREATIVE], ids=["conll", "hyphenated"])
@pytest.mark.parametrize("mode", ["default", "strict"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_seqeval_on_the_flat_lists(mode, labels, data):
    sentences = data.draw(splits(labels))
    gold, predicted = names_of(sentences, labels)
    options = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}

    result = scored(sentences, labels, mode=mode)

    assert result["f1"] == f1_score(gold, predicted, zero_division=0, **options)
    assert result["precision"] == precision_score(gold, predicted, zero_division=0, **options)
    assert result["recall"] == recall_score(gold, predicted, zero_division=0, **options)
    assert result["accuracy"] == accuracy_score(gold, predicted)
    assert result["words"] == sum(map(len, gold))


@pytest.mark.parametrize("labels", [CONLL, CREATIVE], ids=["conll", "hyphenated"])
@pytest.mark.parametrize("mode", ["default", "strict"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:invalid value")  # the oracle's, with no entity
def test_equals_the_report_of_seqeval_by_type(mode, labels, data):
    sentences = data.draw(splits(labels))
    gold, predicted = names_of(sentences, labels)
    options = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}
    report = classification_report(gold, predicted, output_dict=True, zero_division=0, **options)

    result = scored(sentences, labels, mode=mode)

    for type_ in {label[2:] for label in labels[1:]}:
        expected = report.get(type_, {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert result[f"precision_{type_}"] == expected["precision"]
        assert result[f"recall_{type_}"] == expected["recall"]
        assert result[f"f1_{type_}"] == expected["f1-score"]
        assert result[f"support_{type_}"] == expected["support"]
    assert result["support"] == report["micro avg"]["support"]


def test_the_modes_read_ill_formed_tags_differently():
    begins_inside = [[(7, 8), (8, 8), (0, 0)]]  # B-PER I-PER O, predicted I-PER I-PER O
    assert scored(begins_inside, CONLL)["f1"] == 1
    assert scored(begins_inside, CONLL, mode="strict")["f1"] == 0


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_sklearn_on_part_of_speech_tags(data):
    sentences = data.draw(splits(POS))
    gold, predicted = (list(chain(*side)) for side in names_of(sentences, POS))

    result = scored(sentences, POS)

    macro = precision_recall_fscore_support(gold, predicted, average="macro", zero_division=0)
    assert [result[name] for name in ("precision", "recall", "f1")] == pytest.approx(macro[:3], abs=1e-12)
    assert result["accuracy"] == sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)
    assert result["support"] == result["words"] == len(gold)
    by_label = precision_recall_fscore_support(gold, predicted, labels=POS, average=None, zero_division=0)
    for label, *expected in zip(POS, *by_label, strict=True):
        numbers = [result[f"{name}_{label}"] for name in ("precision", "recall", "f1", "support")]
        assert numbers == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("labels", [CONLL, POS], ids=["entities", "pos"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_order_repetition_and_cuts_of_updates_change_nothing(labels, data):
    sentences = data.draw(splits(labels))
    rows = rows_of(sentences)
    again = data.draw(st.lists(st.sampled_from(rows), max_size=10))
    shuffled = data.draw(st.permutations(rows + again))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))

    score = EntityScore(labels)
    for start, end in pairwise([0, *cuts, len(shuffled)]):
        update(score, shuffled[start:end], len(rows))

    assert score.compute() == scored(sentences, labels)


@pytest.mark.parametrize("predictions", [[7, 0], [0, 7]])
def test_predictions_that_disagree_count_the_same_in_any_order(predictions):
    score = EntityScore(CONLL)
    for prediction in predictions:
        update(score, [(0, prediction, 7, 0)], 1)
    result = score.compute()
    assert (result["words"], result["accuracy"]) == (1, 0)  # the smallest id, O


def test_an_entity_does_not_reach_over_the_end_of_its_sentence():
    sentences = [[(0, 0), (7, 7)], [(8, 8), (0, 0)]]  # O B-PER | I-PER O
    assert scored(sentences, CONLL)["support_PER"] == 2
    assert scored([[*sentences[0], *sentences[1]]], CONLL)["support_PER"] == 1


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_missing_word_is_an_error_with_n_of_n(data):
    rows = rows_of(data.draw(splits(CONLL)))
    missing = data.draw(st.integers(0, len(rows) - 1))
    score = EntityScore(CONLL)
    update(score, rows[:missing] + rows[missing + 1 :], len(rows))
    message = rf"^words scored {len(rows) - 1} of {len(rows)}: .* first is word {missing} of its split"
    with pytest.raises(RuntimeError, match=message):
        score.compute()


def test_missing_words_are_left_out_where_allowed():
    rows = rows_of(SPLIT)
    score = EntityScore(CONLL, allow_missing=True)
    update(score, rows[:3], len(rows))
    assert score.compute() == scored(SPLIT[:1], CONLL)


def test_every_type_has_its_keys_even_where_nothing_is_an_entity():
    result = scored([[(0, 0), (0, 0)]], CONLL)
    assert (result["f1"], result["support"], result["accuracy"], result["words"]) == (0, 0, 1, 2)
    assert result.keys() == scored(SPLIT, CONLL).keys()


@pytest.mark.parametrize("labels", [CONLL, POS], ids=["entities", "pos"])
@pytest.mark.parametrize("mode", ["default", "strict"])
def test_a_split_without_words_scores_zero(labels, mode):
    result = scored([], labels, mode=mode)
    assert set(result.values()) == {0.0}
    assert result.keys() == scored([[(0, 0)]], labels, mode=mode).keys()


def test_scores_are_plain_floats():
    for result in (scored(SPLIT, CONLL), scored(SPLIT, CONLL, mode="strict"), scored([[(1, 1)]], POS)):
        assert {type(value) for value in result.values()} == {float}


def test_reset_forgets_the_words_and_their_number():
    score = EntityScore(CONLL)
    update(score, [(0, 1, 1, 0)], 9)
    score.reset()
    update(score, rows_of(SPLIT), 9)
    assert score.compute() == scored(SPLIT, CONLL)


def test_a_clone_goes_its_own_way():
    score = EntityScore(CONLL)
    clone = score.clone()
    update(clone, rows_of(SPLIT), 9)
    update(score, [(0, 7, 7, 0)], 1)
    assert score.compute()["words"] == 1
    assert clone.compute() == scored(SPLIT, CONLL)


def test_a_pickled_score_keeps_its_words():
    score = EntityScore(CONLL, mode="strict")
    update(score, rows_of(SPLIT), 9)
    assert pickle.loads(pickle.dumps(score)).compute() == scored(SPLIT, CONLL, mode="strict")


def test_words_survive_a_move_and_a_change_of_precision():
    score = EntityScore(CONLL)
    update(score, rows_of(SPLIT), 9)
    moved = score.to("cpu").bfloat16().to(torch.float16)
    update(moved, rows_of(SPLIT)[:2], 9)
    assert moved.compute() == scored(SPLIT, CONLL)


def test_updates_ask_nothing_back_from_the_device():
    score = EntityScore(CONLL).to("meta")  # where reading a value is an error
    ids = torch.zeros(4, dtype=torch.int64, device="meta")
    score.update(ids, ids, ids, ids, 4)
    assert score.rows[0].shape == (20,)


@pytest.mark.parametrize(
    "predictions",
    [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2)],
    ids=["longer", "two dimensions", "not whole"],
)
def test_columns_that_do_not_match_are_refused(predictions):
    ids = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="expected vectors of whole numbers, one number a word, got int64"):
        EntityScore(CONLL).update(ids, predictions, ids, ids, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(2, 0, 0, 0)], "outside its split"),
        ([(-1, 0, 0, 0)], "outside its split"),
        ([(0, 9, 0, 0)], "none of the labels"),
        ([(0, 0, -100, 0)], "none of the labels"),
        ([(0, 0, 0, 0), (0, 0, 1, 0)], "two targets"),
    ],
)
def test_words_that_cannot_be_are_caught(rows, message):
    score = EntityScore(CONLL)
    update(score, rows, 1)
    with pytest.raises(AssertionError, match=message):
        score.compute()


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="mode must be default or strict, not IOB2"):
        EntityScore(CONLL, mode="IOB2")


def test_the_example_of_the_docstring_runs():
    result = doctest.testmod(metrics)
    assert result.attempted > 0
    assert result.failed == 0


def process(rank, folder):
    """One of two: the rows that each update is given are chosen by rank."""
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", timeout=timedelta(seconds=60), rank=rank, world_size=2
    )
    rows = rows_of(SPLIT)
    shares = {
        "halves": (rows[::2], rows[1::2]),
        "overlapping": (rows[:6], rows[2:]),
        "nothing in one": (rows, []),
        "no update in one": (rows, None),
        "a word missing": (rows[:2], rows[3:]),
    }
    outcomes = {}
    for name, share in shares.items():
        score = EntityScore(CONLL).to("cpu")
        if share[rank] is not None:
            update(score, share[rank], len(rows))
        try:
            outcomes[name] = score.compute()
        except RuntimeError as error:
            outcomes[name] = str(error)
    torch.distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(outcomes))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with warnings.catch_warnings():
        # Forked, since a fresh process takes seconds to import torchmetrics: Python 3.12 warns of threads.
        # torchmetrics warns, in words of its own, in the process that has no update.
        warnings.simplefilter("ignore")
        torch.multiprocessing.start_processes(process, (folder,), nprocs=2, start_method="fork")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("shares", ["halves", "overlapping", "nothing in one", "no update in one"])
def test_two_processes_score_what_one_does(two_processes, shares):
    assert [outcomes[shares] for outcomes in two_processes] == [scored(SPLIT, CONLL)] * 2


def test_a_word_that_no_process_saw_is_an_error_in_both(two_processes):
    for outcomes in two_processes:
        assert outcomes["a word missing"].startswith("words scored 8 of 9: ")


# ---- the interval


def interval_of(sentences, documents, **options):
    score = EntityScore(CONLL, interval=True, **options)
    rows = torch.tensor(rows_of(sentences)).view(-1, 4)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for part in order.split(3):
        columns = rows[part].unbind(dim=1)
        score.update(*columns, len(rows), document_index=torch.tensor(documents)[columns[3]])
    return score.compute(), score.counts


@given(sentences=splits(CONLL), data=st.data(), mode=st.sampled_from(["default", "strict"]))
@settings(deadline=None)
def test_the_interval_is_over_the_counts_of_each_document(sentences, data, mode):
    documents = data.draw(st.lists(st.integers(0, 2), min_size=len(sentences), max_size=len(sentences)))
    found, kept = interval_of(sentences, documents, mode=mode)
    units = documents if len(set(documents)) > 1 else range(len(sentences))
    counts = []
    for unit in sorted(set(units)):
        gold, predicted = names_of([s for s, of in zip(sentences, units, strict=True) if of == unit], CONLL)
        how = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where nothing is an entity
            report = classification_report(gold, predicted, output_dict=True, zero_division=0, **how)["micro avg"]
            reverse = classification_report(predicted, gold, output_dict=True, zero_division=0, **how)["micro avg"]
        counts.append([round(report["recall"] * report["support"]), reverse["support"], report["support"]])
    assert (found["interval_low"], found["interval_high"]) == f1_interval(np.array(counts))
    assert found[f"interval_{'documents' if len(set(documents)) > 1 else 'sentences'}"] == len(counts)
    assert sum(kept.values()).tolist() == counts
    for name, rows in kept.items():  # by type, and their sums are those of its scores
        right, predicted, support = rows.sum(0)
        of_type = (right / max(predicted, 1), right / max(support, 1), 2 * right / max(predicted + support, 1), support)
        assert of_type == pytest.approx([found[f"{key}_{name}"] for key in ("precision", "recall", "f1", "support")])


def test_words_that_are_no_entities_have_no_interval():
    assert not [name for name in scored([[(0, 0), (1, 2)]], POS, interval=True) if "interval" in name]


def test_a_split_without_a_word_has_no_interval():
    score = EntityScore(CONLL, interval=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    score.update(nothing, nothing, nothing, nothing, 0)
    scores = score.compute()
    assert scores["words"] == 0
    assert not [name for name in scores if name.startswith("interval")]
