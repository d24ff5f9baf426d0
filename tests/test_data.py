"""The datamodule: loaders that hold every word once, a cache that notices changes, and what it refuses."""

import os
import pickle

import numpy as np
import pytest
import torch
from conftest import columns_of
from lightning.pytorch import Trainer

from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, read

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]

# of Lightning about torch, and of the Hub client where the environment has its progress bars off
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
]


@pytest.fixture
def make(conll_files, tiny_model):
    """Make a datamodule over the three files."""

    def make(**options):
        files = {f"{split}_file": str(conll_files / f"{split}.conll") for split in ("train", "validation", "test")}
        return TokenClassificationDataModule(**{**files, "model_name_or_path": str(tiny_model), **options})

    return make


def words_of(loader):
    """Position and label id of each word that is scored, in the order of the batches."""
    pairs = []
    for batch in loader:
        scored = batch["word_index"] >= 0
        pairs += zip(batch["word_index"][scored].tolist(), batch["labels"][scored].tolist(), strict=True)
    return pairs


def gold(path, column=-1):
    return [tag for sentence in read(path, options=ReadOptions(label_column_name=column)) for tag in sentence.tags]


def test_loaders_are_ready_for_pos_without_a_trainer_and_a_module(conll_files, tiny_model):
    path = conll_files / "train.conll"
    data = TokenClassificationDataModule(
        train_file=str(path), label_column_name=1, model_name_or_path=str(tiny_model), batch_size=2
    )
    words = dict(words_of(data.train_dataloader()))
    assert data.labels == [".", "DT", "NNP", "VBD"]
    assert [data.labels[words[i]] for i in range(len(words))] == gold(path, 1)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("max_seq_length", [None, 13])
def test_every_word_of_a_split_comes_once_with_its_label(make, conll_files, split, batch_size, max_seq_length):
    data = make(batch_size=batch_size, eval_batch_size=batch_size, max_seq_length=max_seq_length)
    words = words_of(data.loader(split, shuffle=split == "train"))
    tags = gold(conll_files / f"{split}.conll")
    assert sorted(i for i, _ in words) == list(range(len(tags)))
    assert [data.labels[label] for _, label in sorted(words)] == tags


def test_batches_know_the_words_of_the_whole_split(make, conll_files):
    batches = list(make(eval_batch_size=1).test_dataloader())
    assert len(batches) == 2
    assert {batch["num_words"] for batch in batches} == {len(gold(conll_files / "test.conll"))}


NEIGHBOURS = """-DOCSTART- O

Mira B-PER
left O

Toll B-PER

-DOCSTART- O

Arvenholm B-LOC
froze O
"""


@pytest.fixture
def neighbours(tmp_path):
    path = tmp_path / "neighbours.conll"
    path.write_text(NEIGHBOURS)
    return path


@pytest.mark.parametrize(("context", "windows"), [("sentence", 3), ("document", 2), ("file", 1)])
def test_context_decides_what_a_window_holds(neighbours, tiny_model, context, windows):
    data = TokenClassificationDataModule(train_file=str(neighbours), model_name_or_path=tiny_model, context=context)
    (described,) = data.describe()["splits"].values()
    assert (described["sentences"], described["windows"]) == (3, windows)


@pytest.mark.parametrize("sentences", [1001, 2500])
def test_a_document_of_many_batches_is_cut_as_if_it_were_encoded_at_once(tmp_path, tiny_model, sentences):
    (tmp_path / "a.conll").write_text("-DOCSTART- O\n\nMira B-PER\n\n-DOCSTART- O\n\n" + "Toll B-PER\n\n" * sentences)
    data = TokenClassificationDataModule(
        train_file=str(tmp_path / "a.conll"), model_name_or_path=tiny_model, context="document"
    )
    data.prepare_data()
    rows = data.corpus.splits["train"]
    documents = np.array(rows["document_id"])
    whole = data.encoder.encode(rows["tokens"], rows["tags"], documents=documents)
    assert columns_of(data.loader("train").dataset) == columns_of(whole)


@pytest.mark.parametrize(
    "rows",
    [
        [{"tokens": ["Mira"], "ner_tags": ["B-PER"], "document_id": 0}] * 2,
        [{"tokens": ["Mira"], "ner_tags": ["B-PER"]}] * 2,
    ],
)
def test_context_of_documents_needs_documents(tiny_model, rows):
    data = TokenClassificationDataModule.from_rows(train=rows, model_name_or_path=tiny_model, context="document")
    with pytest.raises(InputError, match=r"the training data has no documents .* --data.context=file takes"):
        data.prepare_data()


def made_one_by_one(data, split, numbers):
    """A batch as lists, from the sentences encoded one by one, without flat arrays, files and a collator."""
    windows, word = [], 0
    for number, row in enumerate(data.corpus.splits[split]):
        columns = columns_of(data.encoder.encode([row["tokens"]], [row["tags"]]))
        for ids, labels, words in zip(*(columns[name] for name in ("input_ids", "labels", "word_index")), strict=True):
            before = min(i for i in words if i >= 0)
            sentence = [-1, *[number] * (len(ids) - 2), -1]
            words = [word + i if i >= 0 else -1 for i in words]
            document = [-1, *[row["document_id"]] * (len(ids) - 2), -1]
            windows.append((ids, labels, words, sentence, document, before))
        word += len(row["tokens"])
    chosen = [windows[i] for i in numbers]
    width = max(len(ids) for ids, *_ in chosen)

    def padded(rows, fill):
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

    input_ids, labels, word_index, sentences, documents, before = zip(*chosen, strict=True)
    return {
        "input_ids": padded(input_ids, data.encoder.tokenizer.pad_token_id),
        "attention_mask": padded([[1] * len(ids) for ids in input_ids], 0),
        "labels": padded(labels, -100),
        "word_index": padded(word_index, -1),
        "sentence_index": padded(sentences, -1),
        "document_index": padded(documents, -1),
        "words_before": torch.tensor(before),
        "num_words": word,
    }


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("rows", [1, 2, 1001])  # of a file a thousand are encoded together
def test_batches_are_those_that_are_made_one_by_one(make, tmp_path, rows, num_workers):
    sentences = [["Mira B-PER", "Toll I-PER", *["left O"] * (n % 30)] for n in range(rows)]
    texts = ["\n".join(words) for words in sentences]
    for at in range(len(texts), 0, -7):  # documents of seven sentences
        texts.insert(at, "-DOCSTART- O")
    (tmp_path / "t.conll").write_text("\n\n".join(texts) + "\n")
    files = {"train_file": str(tmp_path / "t.conll"), "validation_file": None, "test_file": None}
    data = make(**files, batch_size=400, max_seq_length=13, num_workers=num_workers)
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == -(-len(loader.dataset) // 400)
    for numbers, batch in zip(data.train_dataloader().sampler, batches, strict=True):
        expected = made_one_by_one(data, "train", numbers)
        assert batch.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(batch[name], values, rtol=0, atol=0)


def test_rows_without_words_give_no_batches(make, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"tokens": [], "ner_tags": []}\n')
    data = make(test_file=str(tmp_path / "t.jsonl"))
    assert list(data.test_dataloader()) == []
    assert data.describe()["splits"]["test"] == {
        "sentences": 1,
        "words": 0,
        "documents": 1,
        "windows": 0,
        "longest": 0,
    }


def test_what_a_worker_is_given_can_be_pickled(make):
    loader = make().test_dataloader()
    rows, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    batch = collate(rows[[0, 1]])
    assert torch.equal(batch["input_ids"], loader.collate_fn(loader.dataset[[0, 1]])["input_ids"])


def test_the_seed_decides_the_order_of_training(make):
    options = {"batch_size": 1, "max_seq_length": 13}
    one, same, other = (words_of(make(seed=seed, **options).train_dataloader()) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_seed_is_the_one_of_seed_everything_by_default(make, monkeypatch):
    options = {"batch_size": 1, "max_seq_length": 13}
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    assert words_of(make(**options).train_dataloader()) == words_of(make(seed=2, **options).train_dataloader())


def test_labels_that_are_given_are_converted_where_there_is_a_corpus(make, tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("Mira S-PER\nleft O\n")
    data = make(train_file=str(path), validation_file=None, test_file=None, labels=["O", "S-PER"])
    assert data.labels == ["O", "B-PER", "I-PER"]


def test_evaluation_begins_with_the_longest_window(make):
    lengths = [int(batch["attention_mask"].sum()) for batch in make(eval_batch_size=1).test_dataloader()]
    assert lengths == sorted(lengths, reverse=True)


def cache_of(data, split="train"):
    """The file of the windows of a split, and what changes when it is written again."""
    path = data.loader(split).dataset.path
    stat = os.stat(path)
    return path, stat.st_ino, stat.st_mtime_ns


def test_a_second_run_does_not_tokenise_again(make):
    first = make()
    first.prepare_data()
    assert cache_of(make()) == cache_of(first)


def test_cut_windows_are_made_anew(make):
    before = columns_of(make().train_dataloader().dataset)
    path, *_ = cache_of(make())
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])  # another file: what was opened before stays mapped
    assert columns_of(make().train_dataloader().dataset) == before
    assert path.read_bytes() == content


def test_labels_of_all_splits_are_a_list_from_then_on(make, tmp_path):
    (tmp_path / "test.conll").write_text("Mira B-RARE\n")
    data = make(labels="all", test_file=str(tmp_path / "test.conll"))
    labels = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER", "B-RARE", "I-RARE"]
    assert data.labels == data.state_dict()["given_labels"] == labels
    assert "labels" not in data.hparams


def test_the_type_of_tags_without_one_is_recorded(make, tmp_path):
    (tmp_path / "train.conll").write_text("Mira B\nToll I\nleft O\n")
    options = {"train_file": str(tmp_path / "train.conll"), "validation_file": None, "test_file": None}
    data = make(**options, entity_type="Taxon")
    assert (data.labels, data.hparams["entity_type"]) == (["O", "B-Taxon", "I-Taxon"], "Taxon")


@pytest.mark.parametrize(
    "option", [{"max_seq_length": 20}, {"label_all_tokens": True}, {"label_column_name": 1}, {"labels": LABELS[::-1]}]
)
def test_a_changed_option_is_noticed(make, option):
    only_train = {"validation_file": None, "test_file": None}
    assert cache_of(make(**only_train, **option))[0] != cache_of(make(**only_train))[0]


def test_a_changed_tokenizer_is_noticed(make, tiny_model, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["Arvenholm"])
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    assert cache_of(make(model_name_or_path=str(tmp_path)))[0] != cache_of(make())[0]


def test_a_file_that_changed_under_the_same_name_size_and_time_is_noticed(make, tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("Mira B-PER\nToll I-PER\nleft O\n")
    stat = path.stat()
    options = {"train_file": str(path), "validation_file": None, "test_file": None}
    before = columns_of(make(**options).train_dataloader().dataset)
    path.write_text("Edda B-PER\nVoss I-PER\nleft O\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert columns_of(make(**options).train_dataloader().dataset) != before


def test_labels_need_no_tokenizer(make, tmp_path):
    data = make(model_name_or_path=str(tmp_path / "nothing"))
    assert data.labels == LABELS
    with pytest.raises(InputError, match="model_name_or_path"):
        data.train_dataloader()


def test_describe_tells_what_one_wants_to_see_first(make, tiny_model, conll_files):
    told = make(max_seq_length=20).describe()
    assert told["source"] == {
        "dataset": None,
        "commit": None,
        "files": ", ".join(str(conll_files / f"{split}.conll") for split in ("train", "validation", "test")),
        "scheme": "IOB2",
        "annotated_types": None,
        "tokenizer": str(tiny_model),
        "max_seq_length": 20,
    }
    train = told["splits"]["train"]
    assert list(told["splits"]) == ["train", "validation", "test"]
    assert {name: train[name] for name in train if name != "windows"} == {
        "sentences": 4,
        "words": 20,
        "documents": 2,
        "longest": 6,
    }
    assert train["windows"] > 4  # of sub-words there are more than 20 in some sentence
    assert list(told["labels"]) == LABELS
    assert told["labels"]["B-PER"] == {"train": 2, "validation": 1, "test": 1}
    assert told["labels"]["I-LOC"] == {"train": 1, "validation": 0, "test": 0}
    assert told["first_row"] == {
        "tokens": ["Mira", "Toll", "visited", "Arvenholm", "."],
        "labels": ["B-PER", "I-PER", "O", "B-LOC", "O"],
    }
    shown = [(piece.token, piece.word, piece.label) for piece in told["alignment"]]
    assert shown[:3] == [("[CLS]", None, None), ("M", "Mira", "B-PER"), ("##i", "Mira", None)]


def test_a_checkpoint_holds_what_repeats_the_data_and_loads_without_code(make, tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    state = make(labels=LABELS, seed=7).state_dict()
    torch.save(state, tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True) == state
    content = state.pop("content")
    assert content.keys() == {"train", "validation"}
    assert state == {"epoch": 0, "dataset_commit": None, "given_labels": LABELS, "seed": 7}


def test_other_data_is_told_by_what_is_in_it(make, conll_files, tmp_path):
    def others(**options):
        return make(labels=LABELS, **options).other_splits({"data": before})

    before = make(labels=LABELS).state_dict()
    text = (conll_files / "train.conll").read_text()
    for name, content in (("same", text), ("other", text.replace("Mira", "Vela"))):
        (tmp_path / f"{name}.conll").write_text(content)
    assert not others(train_file=tmp_path / "same.conll", test_file=None, batch_size=3, seed=8)
    assert others(train_file=tmp_path / "other.conll") == {"train"}
    assert others(validation_file=tmp_path / "same.conll") == {"validation"}
    assert others(train_fraction=0.5) == {"train"}
    del before["content"]  # as one of former versions
    assert not others(train_file=tmp_path / "other.conll")


def test_hyperparameters_are_primitives_even_where_paths_were_given(make, conll_files, tiny_model):
    data = make(train_file=conll_files / "train.conll", model_name_or_path=tiny_model, max_seq_length=20)
    assert data.hparams["train_file"] == str(conll_files / "train.conll")
    assert {type(value) for value in data.hparams.values()} <= {str, int, float, bool, type(None)}


@pytest.mark.parametrize(("gpu", "sub_words"), [(False, 1024), (True, 8192)])
def test_limits_are_windows_in_training_and_sub_words_in_evaluation(make, monkeypatch, gpu, sub_words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    def limits(**options):
        data = make(**options)
        return data.batch_size, data.max_tokens, data.eval_batch_size, data.eval_max_tokens

    assert limits() == (8, None, None, sub_words)
    assert limits(max_tokens=512, eval_batch_size=3) == (None, 512, 3, None)
    assert limits(batch_size=2, eval_max_tokens=99) == (2, None, None, 99)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_keep_within_a_budget_and_hold_every_word(make, conll_files, shuffle):
    data = make(max_tokens=64, eval_max_tokens=64, max_seq_length=20)
    loader = data.loader("train", shuffle=shuffle)
    batches = [batch["input_ids"] for batch in loader]
    assert len(loader) == len(batches)
    assert max(map(len, batches)) > 1
    assert all(ids.numel() <= 64 for ids in batches)
    assert len(words_of(loader)) == len(gold(conll_files / "train.conll"))


@pytest.mark.parametrize("prefix", ["", "eval_"])
def test_two_limits_are_refused(make, prefix):
    message = f"--data.{prefix}batch_size=2 and --data.{prefix}max_tokens=64: give one of them; .*batch_size=null takes"
    with pytest.raises(InputError, match=message):
        make(**{f"{prefix}batch_size": 2, f"{prefix}max_tokens": 64})


@pytest.mark.parametrize("option", ["batch_size", "eval_batch_size", "max_tokens", "eval_max_tokens"])
def test_an_empty_batch_is_refused(make, option):
    with pytest.raises(InputError, match=f"--data.{option}=0: a batch holds at least one window"):
        make(**{option: 0})


def test_a_negative_number_of_workers_is_refused(make):
    with pytest.raises(InputError, match=r"--data\.num_workers=-1: give 0 or more"):
        make(num_workers=-1)


def test_windows_longer_than_the_model_takes_are_refused(make):
    assert make(max_seq_length=64).train_dataloader()
    with pytest.raises(InputError, match=r"--data.max_seq_length=65 is more than .* takes: 64; leave it out"):
        make(max_seq_length=65).train_dataloader()


def test_windows_without_room_for_a_word_are_refused(make):
    with pytest.raises(InputError, match=r"--data\.max_seq_length=0 leaves no room"):
        make(max_seq_length=0).train_dataloader()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_missing_split_is_named_with_its_option(conll_files, tiny_model, split):
    data = TokenClassificationDataModule(
        train_file=str(conll_files / "train.conll"), model_name_or_path=str(tiny_model)
    )
    loaders = {"validation": data.val_dataloader, "test": data.test_dataloader}
    with pytest.raises(InputError, match=f"there is no {split} split: give --data.{split}_file"):
        loaders[split]()


def test_overfit_batches_is_refused_and_its_substitute_named(make, tiny_model, tmp_path):
    from ner_lightning.model import TokenClassificationModule

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", overfit_batches=1, max_epochs=1, default_root_dir=tmp_path, **quiet)
    model = TokenClassificationModule(str(tiny_model), labels=LABELS)
    with pytest.raises(InputError, match=r"use --trainer\.limit_train_batches"):
        trainer.fit(model, make())
