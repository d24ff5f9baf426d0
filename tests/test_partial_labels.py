"""Files that annotate some types only: what is said of them, the loss against brute force, and what it is good for."""

from itertools import product
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from torch.nn import functional

from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.cli import main
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.encoding import IGNORE
from ner_lightning.errors import InputError
from ner_lightning.model import TokenClassificationModule
from ner_lightning.partial_labels import marginal_losses, meant_by_o

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
PEOPLE = "Mira B-PER\nToll I-PER\nleft O\nSorn O\n\nthe O\nlake O\nfroze O\n"
PLACES = "Jon O\nvisited O\nLake B-LOC\nSorn I-LOC\n"
FULL = "Edda B-PER\nleft O\nTarnby B-LOC\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file that annotates PER, one that annotates LOC, one with both and one without entities."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("people", PEOPLE), ("places", PLACES), ("full", FULL), ("words", "Mira NOUN\nleft VERB\n")):
        (tmp_path / f"{name}.conll").write_text(text)
    return tmp_path


@pytest.fixture
def make(folder, tiny_model):
    def make(**options):
        given = {"train_file": ["people.conll", "places.conll"], "model_name_or_path": str(tiny_model), "seed": 0}
        return TokenClassificationDataModule(**given | options)

    return make


@pytest.fixture
def model(tiny_model):
    torch.manual_seed(0)
    return TokenClassificationModule(str(tiny_model), labels=LABELS).eval()


BOTH = {"people.conll": ["PER"], "places.conll": ["LOC"]}


# the loss


@settings(deadline=None, max_examples=50)
@given(data=st.data(), annotated=st.sets(st.sampled_from(["LOC", "PER"])))
def test_the_loss_is_the_summed_probability_of_all_label_sequences_that_fit(data, annotated):
    own = [label for label in LABELS if label == "O" or label[2:] in annotated]
    length = data.draw(st.integers(1, 4))
    gold = data.draw(st.lists(st.sampled_from(own), min_size=length, max_size=length))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    logits = 5 * torch.randn(1, length, len(LABELS), dtype=torch.float64)
    labels = torch.tensor([[LABELS.index(label) for label in gold]])
    losses = marginal_losses(
        functional.cross_entropy(logits[0], labels[0], reduction="none"),
        logits=logits,
        labels=labels,
        meant_by_o=torch.tensor(meant_by_o(LABELS, [own])),
    )
    probabilities = logits[0].exp() / logits[0].exp().sum(-1, keepdim=True)
    total = 0.0
    for sequence in product(LABELS, repeat=length):
        pairs = list(zip(sequence, gold, strict=True))
        if all(label == g or (g == "O" and label != "O" and label[2:] not in annotated) for label, g in pairs):
            total += np.prod([float(p[LABELS.index(label)]) for p, label in zip(probabilities, sequence, strict=True)])
    assert losses.sum().item() == pytest.approx(-log(total), rel=1e-9, abs=1e-12)


def test_the_gradient_is_that_of_the_sum():
    logits = torch.randn(2, 5, len(LABELS), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 3, 4, 0, IGNORE], [0, 3, 0, 0, 1]])
    table = torch.tensor(meant_by_o(LABELS, [["O", "B-PER", "I-PER"], LABELS]))

    def losses(logits):
        plain = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return marginal_losses(plain, logits=logits, labels=labels, meant_by_o=table)[labels.flatten() >= 0]

    assert torch.autograd.gradcheck(losses, logits)


@pytest.mark.parametrize("label_all_tokens", [False, True])
def test_the_loss_of_a_batch_is_that_of_its_words_one_by_one(make, model, label_all_tokens):
    data = make(
        train_file=["full.conll", "people.conll", "places.conll"],
        annotated_types=BOTH,
        batch_size=100,
        label_all_tokens=label_all_tokens,
    )
    (batch,) = data.train_dataloader()
    logits = model(batch).logits
    total = weights = 0.0
    for window, document in enumerate(batch["sentence_index"].max(dim=1).values.tolist()):
        other = {0: [], 1: [1, 2], 2: [1, 2], 3: [3, 4]}[document]  # full, people (two sentences), places
        for place, label in enumerate(batch["labels"][window].tolist()):
            if label >= 0:
                own = 1.0 if batch["word_index"][window, place] >= 0 else model.subword_weight
                probabilities = logits[window, place].detach().double().softmax(-1)
                total -= own * log(float(probabilities[[label, *(other if label == 0 else [])]].sum()))
                weights += own
    assert model(batch).loss.item() == pytest.approx(total / weights, rel=1e-5)


def test_where_all_types_are_annotated_loss_and_gradient_are_what_they_were_to_the_last_bit(make, model):
    (batch,) = make(train_file=["full.conll", "people.conll"], batch_size=100).train_dataloader()
    assert "meant_by_o" not in batch
    named = {"people.conll": ["LOC", "PER"]}
    (same,) = make(train_file=["full.conll", "people.conll"], annotated_types=named, batch_size=100).train_dataloader()
    assert same["meant_by_o"].tolist() == [[True, False, False, False, False]] * 3
    found = []
    for each in (batch, same):
        model.zero_grad()
        loss = model(each).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# from the files to the batch


@pytest.mark.parametrize("context", ["sentence", "file"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_window_has_what_an_o_may_stand_for_in_its_file(make, context, num_workers):
    options = {"annotated_types": BOTH, "context": context, "num_workers": num_workers}
    data = make(train_file=["people.conll", "full.conll", "places.conll"], **options)
    found = {}
    for batch in data.train_dataloader():
        for sentences, row in zip(batch["sentence_index"].tolist(), batch["meant_by_o"].tolist(), strict=True):
            found |= {number: row for number in sentences if number >= 0}
    people, full, places = (
        [True, *pair] for pair in ([True, True, False, False], [False] * 4, [False, False, True, True])
    )
    assert found == {0: people, 1: people, 2: full, 3: places}


def test_validation_and_test_know_nothing_of_it(make):
    data = make(annotated_types=BOTH, validation_file="full.conll", test_file="people.conll")
    assert all("meant_by_o" not in batch for split in ("validation", "test") for batch in data.loader(split))


def test_labels_are_those_of_all_files(make):
    assert make(annotated_types=BOTH).labels == LABELS


def test_a_folder_has_training_files_too(make, folder):
    (folder / "corpus").mkdir()
    (folder / "corpus" / "train.conll").write_text(PEOPLE)
    options = {"labels": ["O", "B-PER", "I-PER"], "annotated_types": {"corpus/train.conll": ["PER"]}}
    assert make(train_file=None, dataset_name="corpus", **options).corpus.annotated == [["O", "B-PER", "I-PER"]]


# contradictions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"annotated_types": {"places.conll": ["PER"]}},
            r"^places.conll:3: an entity of LOC, which the file is said not to annotate: add it to the file's types in "
            "--data.annotated_types, or take the entity out$",
        ),
        (
            {"annotated_types": {"people.conl": ["PER"]}},
            r"annotated_types: people.conl is none of the training files \(people.conll, places.conll\); name one "
            "of them, or take back what a config file or a checkpoint says by --data.annotated_types=null$",
        ),
        (
            {"train_file": None, "dataset_name": "ner_lightning/quickstart", "annotated_types": BOTH},
            r"people.conll is none of the training files \(.*train.*\)",
        ),
        (
            {"annotated_types": {"people.conll": ["PERS"]}},
            r"people.conll is said to annotate PERS, which is none of the types LOC, PER .*; did you mean PER",
        ),
        (
            {"annotated_types": BOTH, "labels": [*LABELS, "B-ORG", "I-ORG"]},
            "no training file is said to annotate ORG, which is in the label list; add it to the types of a file, or",
        ),
        (
            {"annotated_types": BOTH, "train_file": "words.conll"},
            "annotated_types is for entities, whose labels have O, found NOUN, VERB; leave it out",
        ),
        (
            {"annotated_types": BOTH, "labels": LABELS[1:]},
            "annotated_types is for entities, whose labels have O, found B-LOC, .*; leave it out",
        ),
        (
            {"annotated_types": BOTH, "validation_split": 0.5},
            r"validation_split=0.5: with --data.annotated_types the training data may lack .* --data.validation_file",
        ),
    ],
)
def test_contradictions_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        _ = make(**options).corpus


def test_rows_in_memory_are_no_files():
    rows = [{"tokens": ["Mira"], "ner_tags": ["B-PER"]}]
    data = TokenClassificationDataModule.from_rows(train=rows, annotated_types={"a.conll": ["PER"]})
    with pytest.raises(InputError, match=r"a.conll is none of the training files \(there are none\)"):
        _ = data.corpus


def test_a_contradiction_is_found_again_when_all_else_is_cached(make):
    _ = make(annotated_types=BOTH).corpus, make().corpus
    for _again in range(2):
        with pytest.raises(InputError, match=r"places.conll:3: an entity of LOC"):
            _ = make(annotated_types={"people.conll": ["LOC", "PER"], "places.conll": ["PER"]}).corpus


# the command line


def test_a_run_says_it_records_it_and_goes_on_with_it(folder, tiny_model, capsys):
    options = [
        "--data.train_file=[people.conll,places.conll]",
        "--data.validation_file=full.conll",
        "--data.test_file=full.conll",
        "--data.annotated_types={people.conll: [PER], places.conll: [LOC]}",
        f"--model.model_name_or_path={tiny_model}",
    ]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
    said = "people.conll: PER; places.conll: LOC"
    assert not main(["inspect", *options])
    assert f"annotated_types {said}" in capsys.readouterr().out
    assert not main(["fit", *options, *quiet, "--trainer.max_epochs=1"])
    assert f"annotated   {said}\n" in capsys.readouterr().out
    last = "runs/version_0/checkpoints/last.ckpt"
    assert read_checkpoint(last)["datamodule_hyper_parameters"]["annotated_types"] == BOTH
    other = ["fit", f"--ckpt_path={last}", *quiet, "--trainer.max_epochs=2", "--data.train_file=full.conll"]
    assert main(other)
    assert "people.conll is none of the training files (full.conll)" in capsys.readouterr().err
    assert not main(["fit", f"--ckpt_path={last}", *quiet, "--trainer.max_epochs=2"])
    assert f"annotated   {said}\n" in capsys.readouterr().out
    assert not main(["test", f"--ckpt_path={last}", *quiet[:2]])
    assert "annotated " not in capsys.readouterr().out
    # what a checkpoint says of its training files is not said of others
    assert not main(["test", f"--ckpt_path={last}", *quiet[:2], "--data.test_file=people.conll"])


def test_a_path_is_recorded_as_text(make, folder):
    data = make(annotated_types={folder / "people.conll": ["PER"]}, train_file=[folder / "people.conll", "full.conll"])
    assert data.hparams["annotated_types"] == {str(folder / "people.conll"): ["PER"]}
    assert len(data.corpus.annotated) == 2


# what it is good for


def scores_of_a_model(make, tiny_model, annotated_types):
    """F1 by type on sentences with both, after training on a file that annotates PER and one that annotates LOC."""
    torch.manual_seed(1)
    data = make(annotated_types=annotated_types, validation_file="full.conll", batch_size=8)
    model = TokenClassificationModule(str(tiny_model), labels=data.labels, learning_rate=1e-2)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_epochs=12, enable_checkpointing=False, num_sanity_val_steps=0, **quiet)
    trainer.fit(model, data)
    return {name: float(trainer.callback_metrics[f"val_f1_{name}"]) for name in ("LOC", "PER")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_model_finds_both_types_of_two_files_that_annotate_one_each(make, folder, tiny_model):
    draw = np.random.default_rng(0)
    people, places = ["Mira", "Toll", "Edda", "Jon"], ["Sorn", "Tarnby", "Velk", "Arven"]

    def sentences(number, *types):
        lines = []
        for _ in range(number):
            person, place = draw.choice(people), draw.choice(places)
            tags = ["B-PER" if "PER" in types else "O", "O", "B-LOC" if "LOC" in types else "O"]
            words = zip((person, draw.choice(["left", "visited", "won"]), place), tags, strict=True)
            lines.append("".join(f"{word} {tag}\n" for word, tag in words))
        return "\n".join(lines)

    (folder / "people.conll").write_text(sentences(120, "PER"))
    (folder / "places.conll").write_text(sentences(40, "LOC"))
    (folder / "full.conll").write_text(sentences(30, "PER", "LOC"))
    with_it = scores_of_a_model(make, tiny_model, BOTH)
    without = scores_of_a_model(make, tiny_model, None)
    assert min(with_it.values()) > 0.95
    assert min(without.values()) < 0.5
