"""Corpora from files and from the fake Hub, through the real `datasets` and the real Hub client."""

import io
import json
import logging
import os
import pickle
import resource
import subprocess
import sys
from dataclasses import fields

import pytest

from ner_lightning import corpus as corpus_module
from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, formats

pytestmark = pytest.mark.usefixtures("caches")

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
# Another order than ours, as the sets on the Hub have.
DECLARED = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
IOB1 = "Mira I-PER\nToll B-PER\nsleeps O\n\nSorn I-LOC\n"


@pytest.fixture
def write(tmp_path):
    def _write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def load_corpus(**options):
    """Load a corpus, with the options of reading among the others."""
    names = {field.name for field in fields(ReadOptions)} - {"labels"}
    reading = {name: options.pop(name) for name in names & options.keys()}
    return corpus_module.load_corpus(**options, options=ReadOptions(**reading))


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(*sentences, **columns):
    """Columns of a table from sentences like "Mira/B-PER sleeps/O"; the tags as numbers of `DECLARED`."""
    pairs = [[word.rsplit("/", 1) for word in sentence.split()] for sentence in sentences]
    return {
        "tokens": [[word for word, _ in pair] for pair in pairs],
        "ner_tags": [[DECLARED.index(tag) for _, tag in pair] for pair in pairs],
        **columns,
    }


def parquet(rows, *, names=DECLARED):
    import datasets

    tag = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    features = {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(tag)}
    extra = {name: datasets.Value("int64") for name in rows if name not in features}
    file = io.BytesIO()
    datasets.Dataset.from_dict(rows, features=datasets.Features({**features, **extra})).to_parquet(file)
    return file.getvalue()


TRAIN = rows_of("Mira/B-PER sleeps/O", "Lake/B-LOC Sorn/I-LOC froze/O", "Quill/B-ORG won/O")
VALIDATION = rows_of("Edda/B-PER left/O", "Tarnby/B-LOC")


def names(corpus, split="train"):
    return [[corpus.labels[tag] for tag in tags] for tags in corpus.splits[split]["tags"]]


# Files.


def test_conll_files_become_words_tag_ids_and_documents(conll_files):
    corpus = load_corpus(
        train_file=str(conll_files / "train.conll"),
        validation_file=str(conll_files / "validation.conll"),
        test_file=str(conll_files / "test.conll"),
    )
    assert corpus.splits.num_rows == {"train": 4, "validation": 2, "test": 2}
    assert (corpus.labels, corpus.scheme, corpus.commit) == (LABELS, "IOB2", None)
    assert corpus.splits["train"].column_names == ["tokens", "tags", "document_id", "source_id"]
    assert corpus.splits["train"][0]["tokens"] == ["Mira", "Toll", "visited", "Arvenholm", "."]
    assert names(corpus)[0] == ["B-PER", "I-PER", "O", "B-LOC", "O"]
    assert corpus.splits["train"]["document_id"][:] == [0, 0, 1, 1]
    assert corpus.splits["test"].features["tags"].feature.names == LABELS


def test_a_drawn_split_knows_where_its_words_stand(conll_files):
    path = conll_files / "train.conll"
    corpus = load_corpus(train_file=path, validation_split=0.5)
    lines = path.read_text(encoding="utf-8").splitlines()
    for split, rows in corpus.splits.items():
        words = [(row, len(tokens) - 2) for row, tokens in enumerate(rows["tokens"])]
        numbers = [int(place.removeprefix(f"{path}:")) for place in corpus.places(split, words)]
        assert [lines[number - 1].split()[0] for number in numbers] == [tokens[-2] for tokens in rows["tokens"]]


def test_rows_in_memory_go_to_another_process():
    corpus = load_corpus(rows={"train": [{"tokens": ["Mira", "ran"], "ner_tags": ["B-PER", "O"]}]})
    assert pickle.loads(pickle.dumps(corpus)).splits["train"][:] == corpus.splits["train"][:]


def test_a_folder_as_dataset_name_gives_its_splits(conll_files):
    corpus = load_corpus(dataset_name=str(conll_files))
    assert corpus.splits.num_rows == {"train": 4, "validation": 2, "test": 2}


SNAPSHOTS = {
    "data": [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/validation-00000-of-00001",
    ],
    "no data folder": ["train-00000-of-00002-3f2a.parquet", "train-00001-of-00002-9b1c.parquet", "dev-00000-of-00001"],
    "a configuration": [
        "en/train-00000-of-00002.parquet",
        "en/train-00001-of-00002.parquet",
        "en/valid-00000-of-00001",
    ],
    "converted": ["only/train/0000.parquet", "only/train/0001.parquet", "only/validation/0000"],
}


@pytest.mark.parametrize("layout", SNAPSHOTS)
def test_a_snapshot_of_the_hub_is_a_folder_that_loads(tmp_path, layout):
    for name, rows in zip(SNAPSHOTS[layout], [TRAIN, VALIDATION, VALIDATION], strict=True):
        path = (tmp_path / name).with_suffix(".parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet(rows))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    corpus = load_corpus(dataset_name=str(tmp_path))
    assert corpus.splits.num_rows == {"train": 5, "validation": 2}
    assert corpus.splits["train"]["tokens"][:] == TRAIN["tokens"] + VALIDATION["tokens"]
    assert (names(corpus)[-2:], corpus.labels) == ([["B-PER", "O"], ["B-LOC"]], LABELS)


def test_a_snapshot_of_several_configurations_asks_for_one(tmp_path):
    for name, rows in (("de", VALIDATION), ("en", TRAIN)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-00000-of-00001.parquet").write_bytes(parquet(rows))
    with pytest.raises(InputError, match=r"found the folders de, en; give one of them \(--data.dataset_config_name\)"):
        load_corpus(dataset_name=str(tmp_path))
    assert load_corpus(dataset_name=str(tmp_path), dataset_config_name="en").splits.num_rows == {"train": 3}


def test_a_shard_that_is_missing_is_noticed(tmp_path):
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(parquet(TRAIN))
    with pytest.raises(InputError, match=r"expected 2 files like train-00000-of-00002\.parquet, found 1"):
        load_corpus(dataset_name=str(tmp_path))


def test_shards_may_number_their_labels_otherwise(tmp_path):
    renamed = {**VALIDATION, "ner_tags": [[len(DECLARED) - 1 - tag for tag in tags] for tags in VALIDATION["ner_tags"]]}
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(parquet(TRAIN))
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(parquet(renamed, names=DECLARED[::-1]))
    assert names(load_corpus(dataset_name=str(tmp_path)))[-2:] == [["B-PER", "O"], ["B-LOC"]]


def test_an_error_in_a_shard_names_its_own_row(tmp_path):
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(parquet(TRAIN))
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(parquet(rows_of("left/O", "Velan/B-MISC")))
    few = [name for name in DECLARED if "MISC" not in name]
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet, row 1: label B-MISC of the train split"):
        load_corpus(dataset_name=str(tmp_path), labels=few)


def test_what_save_to_disk_wrote_loads_as_a_folder(tmp_path):
    import datasets

    tag = datasets.ClassLabel(names=DECLARED)
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(tag)})
    train, validation = (datasets.Dataset.from_dict(rows, features=features) for rows in (TRAIN, VALIDATION))
    datasets.DatasetDict(train=train, dev=validation).save_to_disk(tmp_path / "all", num_shards={"train": 2, "dev": 1})
    corpus = load_corpus(dataset_name=str(tmp_path / "all"))
    assert (corpus.labels, corpus.splits.num_rows) == (LABELS, {"train": 3, "validation": 2})
    assert corpus.splits["train"]["tokens"][:] == TRAIN["tokens"]
    train.save_to_disk(tmp_path / "one")
    assert load_corpus(dataset_name=str(tmp_path / "one")).splits.num_rows == {"train": 3}
    with pytest.raises(InputError, match=r"one, row 0: label B-PER of the train split is not in"):
        load_corpus(dataset_name=str(tmp_path / "one"), labels=["O", "B-LOC", "I-LOC"])
    datasets.DatasetDict(extra=train).save_to_disk(tmp_path / "other")
    with pytest.raises(InputError, match=r"other: expected a split train, validation or test, found extra"):
        load_corpus(dataset_name=str(tmp_path / "other"))
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"one: what `save_to_disk` wrote here cannot be read: "):
        load_corpus(dataset_name=str(tmp_path / "one"))


def test_files_replace_the_dataset_name_altogether(conll_files, write):
    corpus = load_corpus(dataset_name=str(conll_files), train_file=write("t.conll", IOB1))
    assert corpus.splits.num_rows == {"train": 2}


def test_other_schemes_become_iob2(write):
    corpus = load_corpus(train_file=write("t.conll", IOB1))
    assert corpus.scheme == "IOB1"
    assert names(corpus) == [["B-PER", "B-PER", "O"], ["B-LOC"]]


def test_a_given_scheme_is_not_questioned(write):
    path = write("t.conll", "Mira I-PER\nToll I-PER\nsleeps O\n")
    assert names(load_corpus(train_file=path, scheme="IO")) == [["B-PER", "I-PER", "O"]]


SLIP = "Mira B-PER\nsleeps O\n\n" * 150 + "Sorn B-LOC\nToll I-PER\nfroze O\n"


def slips(name):
    return f"{name}: tag 'I-PER' opens an entity, where IOB2 has B-; 1 of 152 do so, this is the first; they are read"


def test_one_ill_formed_tag_is_read_as_conlleval_does_and_told_once_with_its_line(write, caplog):
    path = write("t.conll", SLIP)
    corpus = load_corpus(train_file=path, validation_file=path)
    assert (corpus.scheme, names(corpus)[-1]) == ("IOB2", ["B-LOC", "B-PER", "O"])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert slips(f"{path}:452") in record.getMessage()


def test_one_ill_formed_tag_among_declared_numbers_is_told_with_its_row(tmp_path, caplog):
    sentences = ["Mira/B-PER sleeps/O"] * 150 + ["Sorn/B-LOC Toll/I-PER froze/O"]
    (tmp_path / "train.parquet").write_bytes(parquet(rows_of(*sentences)))
    corpus = load_corpus(dataset_name=str(tmp_path))
    assert (corpus.scheme, names(corpus)[-1]) == ("IOB2", ["B-LOC", "B-PER", "O"])
    assert slips(f"{tmp_path / 'train.parquet'}, row 150") in caplog.text


def test_one_ill_formed_tag_beside_given_labels_is_told_too(write, caplog):
    path = write("t.conll", SLIP)
    corpus = load_corpus(train_file=path, labels=DECLARED)
    assert (corpus.scheme, corpus.labels) == ("IOB2", DECLARED)
    assert slips(f"{path}:452") in caplog.text


@pytest.mark.parametrize("labels", [None, DECLARED])
def test_many_ill_formed_tags_are_asked_about_with_the_line_and_the_value_to_give(write, caplog, labels):
    path = write("t.conll", "Mira B-PER\nsleeps O\n\nSorn B-LOC\nToll I-PER\n")
    with pytest.raises(InputError, match=r"t\.conll:5: tag 'I-PER' opens an entity; .*: give --data\.scheme=IOB2 "):
        load_corpus(train_file=path, labels=labels)
    corpus = load_corpus(train_file=path, labels=labels, scheme="IOB2")
    assert names(corpus) == [["B-PER", "O"], ["B-LOC", "B-PER"]]
    assert not caplog.records


ONE_TYPE = "Mira B\nToll I\nsleeps O\n"


def test_tags_without_a_type_are_read_as_one_type_and_that_is_said_once(write, caplog):
    path = write("t.conll", ONE_TYPE)
    corpus = load_corpus(train_file=path, validation_file=write("v.conll", "left O\nEdda B\n"))
    assert (corpus.scheme, corpus.labels) == ("IOB2", ["O", "B-ENTITY", "I-ENTITY"])
    assert names(corpus) == [["B-ENTITY", "I-ENTITY", "O"]]
    assert names(corpus, "validation") == [["O", "B-ENTITY"]]
    said = f"{path}: the tags B, I, O name no type, ENTITY is taken for all entities (--data.entity_type gives another"
    assert [said in message for message in caplog.messages] == [True]


def test_the_type_of_tags_without_one_can_be_named(write, caplog):
    path = write("t.conll", ONE_TYPE)
    corpus = load_corpus(train_file=path, entity_type="Species")
    assert (corpus.labels, caplog.messages) == (["O", "B-Species", "I-Species"], [])
    corpus = load_corpus(test_file=path, entity_type="Species", labels=corpus.labels)
    assert names(corpus, "test") == [["B-Species", "I-Species", "O"]]


@pytest.mark.parametrize(
    ("declared", "tags", "scheme"),
    [
        (["O", "B", "I"], ["B", "I", "O"], "IOB2"),
        (["B", "I", "O"], ["B", "I", "O"], "IOB2"),
        (["O", "B", "E", "I", "S"], ["B", "E", "O"], "BIOES"),
    ],
)
def test_declared_names_without_a_type_are_read_alike(tmp_path, declared, tags, scheme):
    rows = {"tokens": [["Mira", "Toll", "left"]], "ner_tags": [[declared.index(tag) for tag in tags]]}
    (tmp_path / "train.parquet").write_bytes(parquet(rows, names=declared))
    corpus = load_corpus(dataset_name=str(tmp_path))
    assert (corpus.scheme, corpus.labels) == (scheme, ["O", "B-ENTITY", "I-ENTITY"])
    assert names(corpus) == [["B-ENTITY", "I-ENTITY", "O"]]


def test_a_type_for_tags_that_have_types_is_refused(write):
    path = write("t.conll", "Mira B-PER\nsleeps O\n")
    with pytest.raises(
        InputError, match=r"t\.conll: --data\.entity_type=X is for entities whose tags .* such as B-PER; leave it out"
    ):
        load_corpus(train_file=path, entity_type="X")
    with pytest.raises(InputError, match=r"entity_type=X: --data\.scheme=plain has no entities; leave one out"):
        load_corpus(train_file=write("t.conll", ONE_TYPE), entity_type="X", scheme="plain")


def test_plain_is_taken_at_its_word(write):
    for text, labels in ((ONE_TYPE, ["O", "B", "I"]), ("Mira b-per\nToll B_PER\n", ["B_PER", "b-per"])):
        assert set(load_corpus(train_file=write("t.conll", text), scheme="plain").labels) == set(labels)


@pytest.mark.parametrize(
    ("tags", "line", "expected"),
    [
        (["O", "b-per", "i-per"], 2, "tag 'b-per' belongs to no scheme; expected B-per;"),
        (["b-per", "i-per", "b-per"], 1, "tag 'b-per' belongs to no scheme; expected B-per;"),
        (["O", "B_PER", "I_PER"], 2, "tag 'B_PER' belongs to no scheme; expected B-PER;"),
        (["O", "PER-B", "PER-I"], 2, "tag 'PER-B' belongs to no scheme; expected B-PER;"),
        (["B-PER", "O", "b-org"], 3, "tag 'b-org' belongs to no scheme; expected B-org;"),
        (["B-PER", "O", "B-ORG|B-LOC"], 3, r"tag 'B-ORG\|B-LOC' holds more than one label; .* such as B-ORG;"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"labels": DECLARED}, {"scheme": "IO"}, {"scheme": "IOB2"}])
def test_tags_that_nearly_are_of_a_scheme_are_named_with_their_line(write, tags, line, expected, options):
    if options.get("scheme") == "IO":
        tags = [tag.replace("B-PER", "I-PER") for tag in tags]
    path = write("t.conll", "".join(f"word {tag}\n" for tag in tags))
    with pytest.raises(InputError, match=rf"t\.conll:{line}: {expected}"):
        load_corpus(train_file=path, **options)


def test_a_tag_without_a_type_among_others_is_named_with_its_line(write):
    with pytest.raises(InputError, match=r"t\.conll:3: tag 'B' belongs to no scheme; expected B- followed by a type"):
        load_corpus(train_file=write("t.conll", "Mira B-PER\nleft O\nSorn B\n"))


def test_a_test_file_alone_is_not_read_as_plain_for_its_spelling(write):
    path = write("t.conll", "Mira b-per\nToll i-per\nslept O\n")
    with pytest.raises(InputError, match=r"t\.conll:1: tag 'b-per' belongs to no scheme; expected B-per"):
        load_corpus(test_file=path, labels=["O", "b-per", "i-per"])


def test_every_split_is_read_in_the_scheme_of_train(write):
    validation = write("v.conll", "Edda I-PER\n")
    corpus = load_corpus(train_file=write("t.conll", IOB1), validation_file=validation)
    assert names(corpus, "validation") == [["B-PER"]]


@pytest.mark.parametrize(("column", "labels"), [("1", ["NNP", "VBD"]), (2, ["O", "B-NP", "I-NP", "B-VP", "I-VP"])])
def test_columns_of_conll_files_go_by_number(write, column, labels):
    path = write("t.conll", "Mira NNP I-NP B-PER\nslept VBD B-VP O\n")
    assert (
        load_corpus(train_file=path, label_column_name=column, scheme=None if column == "1" else "IOB1").labels
        == labels
    )


def test_conllu_gives_form_and_upos(write):
    text = "# newdoc\n1\tMira\tmira\tPROPN\n2-3\tdon't\t_\t_\n2\tdo\tdo\tAUX\n3\tn't\tnot\tPART\n"
    corpus = load_corpus(train_file=write("t.conllu", text))
    assert (corpus.scheme, corpus.labels) == ("plain", ["AUX", "PART", "PROPN"])
    assert corpus.splits["train"]["tokens"][:] == [["Mira", "do", "n't"]]


def test_jsonl_with_text_tags_and_empty_sentences(write):
    rows = [
        {"tokens": ["Mira", "sleeps"], "ner_tags": ["B-PER", "O"]},
        {"tokens": [], "ner_tags": []},
        {"tokens": ["Sorn"], "ner_tags": ["B-LOC"]},
    ]
    corpus = load_corpus(train_file=write("t.jsonl", jsonl(*rows) + "\n"))
    assert names(corpus) == [["B-PER", "O"], [], ["B-LOC"]]
    assert corpus.splits["train"]["tokens"][1] == []
    assert corpus.splits["train"]["document_id"][:] == [0, 1, 2]


def test_document_ids_of_a_table_are_kept_and_names_of_documents_numbered(write):
    rows = [{"tokens": ["Mira"], "ner_tags": ["B-PER"], "document_id": i} for i in (7, 7, 9)]
    assert load_corpus(train_file=write("t.jsonl", jsonl(*rows))).splits["train"]["document_id"][:] == [7, 7, 9]
    rows = [{"tokens": ["Mira"], "ner_tags": ["B-PER"], "document_id": i} for i in ("b", "a", "b")]
    assert load_corpus(train_file=write("u.jsonl", jsonl(*rows))).splits["train"]["document_id"][:] == [0, 1, 0]
    # what Arrow does not take for a number of 64 bits
    rows = [{"tokens": ["Mira"], "ner_tags": ["B-PER"], "document_id": i} for i in (2**70, True, 2**70)]
    assert load_corpus(train_file=write("v.jsonl", jsonl(*rows))).splits["train"]["document_id"][:] == [0, 1, 0]


def test_numbers_get_their_names_from_labels(write):
    path = write("t.jsonl", jsonl({"tokens": ["Mira", "Toll"], "ner_tags": [1, 2]}))
    corpus = load_corpus(train_file=path, labels=DECLARED)
    assert corpus.labels == DECLARED
    assert corpus.splits["train"]["tags"][:] == [[1, 2]]


def test_number_names_of_another_scheme_become_iob2(write):
    path = write("t.jsonl", jsonl({"tokens": ["Mira", "Toll", "Edda"], "ner_tags": [1, 2, 3]}))
    corpus = load_corpus(train_file=path, labels=["O", "B-PER", "E-PER", "S-PER"])
    assert (corpus.scheme, corpus.labels) == ("BIOES", ["O", "B-PER", "I-PER"])
    assert names(corpus) == [["B-PER", "I-PER", "B-PER"]]


@pytest.mark.parametrize("column", ["tags", "labels"])
def test_the_only_candidate_is_the_label_column(write, column):
    path = write("t.json", jsonl({"tokens": ["Mira"], column: ["B-PER"]}))
    assert load_corpus(train_file=path).labels == ["O", "B-PER", "I-PER"]


def test_parquet_with_declared_labels_orders_them_as_ever(tmp_path):
    (tmp_path / "train.parquet").write_bytes(parquet(TRAIN))
    corpus = load_corpus(dataset_name=str(tmp_path))
    assert corpus.labels == LABELS  # MISC is declared, though no word has it
    assert names(corpus)[1] == ["B-LOC", "I-LOC", "O"]


def test_labels_are_used_in_the_order_given(conll_files):
    corpus = load_corpus(test_file=conll_files / "test.conll", labels=DECLARED)
    assert corpus.labels == DECLARED
    assert names(corpus, "test")[0] == ["B-PER", "I-PER", "O", "B-LOC", "O"]


def test_the_packaged_sample_loads_by_name():
    from ner_lightning.quickstart import FOLDER

    if not (FOLDER / "train.conll").exists():
        pytest.skip("the sample corpus is not there yet")
    assert set(load_corpus(dataset_name="ner_lightning/quickstart").splits) >= {"train", "validation"}


# The cache.


def test_a_file_is_read_again_only_when_its_content_changes(write, monkeypatch):
    read = []
    real = formats._READERS["conll"]
    monkeypatch.setitem(formats._READERS, "conll", lambda path, **how: read.append(path) or real(path, **how))
    path = write("t.conll", "Mira B-PER\n")
    load_corpus(train_file=path)
    load_corpus(train_file=write("same.conll", "Mira B-PER\n"))
    assert read == [path]
    write("t.conll", "Sorn B-LOC\n")
    assert load_corpus(train_file=path).labels == ["O", "B-LOC", "I-LOC"]
    assert read == [path, path]


def test_other_options_are_noticed(write):
    path = write("t.conll", "Mira NNP B-PER\nsleeps VBZ O\n")
    assert load_corpus(train_file=path).labels == ["O", "B-PER", "I-PER"]
    assert load_corpus(train_file=path, label_column_name=1).labels == ["NNP", "VBZ"]


def test_other_labels_and_another_scheme_give_other_ids(write):
    path = write("t.conll", "Mira B-PER\nToll I-PER\n\nSorn B-PER\n")
    assert load_corpus(train_file=path).splits["train"]["tags"][:] == [[1, 2], [1]]
    labels = ["I-PER", "B-PER", "O"]
    assert load_corpus(train_file=path, labels=labels).splits["train"]["tags"][:] == [[1, 0], [1]]
    plain = load_corpus(train_file=path, scheme="plain", labels=labels[::-1])
    assert plain.splits["train"]["tags"][:] == [[1, 2], [1]]
    path = write("t.conll", "Mira I-PER\nToll I-PER\n")
    for scheme, ids in (("plain", [[0, 0]]), ("IOB2", [[1, 0]])):
        assert load_corpus(train_file=path, scheme=scheme, labels=labels).splits["train"]["tags"][:] == ids


@pytest.fixture
def arrow_files(write, caches):
    """Load a corpus of two tables, and give what loads it again and the files of the cache."""
    path = write("t.conll", "Mira B-PER\nsleeps O\n\n" * 2500)

    def load():
        return load_corpus(train_file=path).splits["train"][:]

    rows = load()
    files = sorted(caches.rglob("*.arrow"))
    assert len(files) == 2

    def load_again():
        assert load() == rows
        assert sorted(caches.rglob("*.arrow")) == files

    return load_again, files


@pytest.mark.parametrize("kept", [0, 7, 0.5, 0.999, -8, -1])
@pytest.mark.parametrize("which", [0, 1])
def test_a_cut_file_of_the_cache_is_made_anew(arrow_files, which, kept):
    load_again, files = arrow_files
    size = files[which].stat().st_size
    os.truncate(files[which], int(size * kept) if isinstance(kept, float) else kept % size)
    load_again()
    assert files[which].stat().st_size == size


def test_a_file_of_the_cache_that_was_cut_between_two_batches_is_made_anew(arrow_files):
    import pyarrow

    load_again, files = arrow_files
    with pyarrow.memory_map(str(files[0])) as stream:
        reader = pyarrow.ipc.open_stream(stream)
        assert reader.read_next_batch().num_rows == 1000
        end = stream.tell()
    os.truncate(files[0], end)
    with pyarrow.memory_map(str(files[0])) as stream:
        assert pyarrow.ipc.open_stream(stream).read_all().num_rows == 1000  # it reads as if it were whole
    load_again()


def test_a_file_of_the_cache_whose_end_never_reached_the_disk_is_made_anew(arrow_files):
    load_again, files = arrow_files
    with files[1].open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(bytes(4096))
    load_again()


@pytest.fixture
def no_room():
    """Files of at most 16 KiB: what a full disk says, in other words."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_cache_without_room_is_said_with_its_file_and_nothing_is_kept(write, caches, request):
    path = write("t.conll", "Mira B-PER\nsleeps O\n\n" * 2500)
    request.getfixturevalue("no_room")
    with pytest.raises(
        InputError, match=r"[0-9a-f]{32}\.arrow: the cache cannot be written: File too large; nothing of"
    ):
        load_corpus(train_file=path)
    assert [file for file in caches.rglob("*") if file.is_file()] == []


def test_a_cache_that_is_no_folder_is_said(write, caches):
    caches.write_text("")
    with pytest.raises(InputError, match=r"\.arrow: the cache cannot be written: (File exists|Not a directory)"):
        load_corpus(train_file=write("t.conll", IOB1))


def test_any_change_of_the_code_makes_another_key(monkeypatch, tmp_path):
    from ner_lightning import cache

    keys = set()
    for name, text in [("cache.py", "a"), ("cache.py", "b"), ("new.py", "new"), ("wing/new.py", "c")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
        cache._code.cache_clear()
        keys.add(cache.content_key("x"))
    cache._code.cache_clear()
    assert len(keys) == 4


def test_a_malformed_file_leaves_nothing_half_written(write, caches):
    path = write("t.conll", "Mira B-PER\n" * 3000 + "Toll\n")
    with pytest.raises(InputError, match=r"t\.conll:3001: expected 2 columns"):
        load_corpus(train_file=path)
    assert not list(caches.rglob("*.arrow")) + list(caches.rglob("*incomplete*/"))


def test_nothing_is_shown_while_files_are_read(write, capfd):
    load_corpus(train_file=write("t.conll", IOB1))
    assert capfd.readouterr() == ("", "")


def test_two_processes_read_a_file_at_the_same_time(conll_files, tmp_path):
    code = (
        "import sys; from ner_lightning.corpus import load_corpus;"
        "print(load_corpus(dataset_name=sys.argv[1]).splits.num_rows)"
    )
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "both"), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(conll_files)], env=environment, stdout=-1, stderr=-1, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "{'train': 4, 'validation': 2, 'test': 2}\n", "")


# What a user may get wrong in files.


def test_no_source():
    with pytest.raises(InputError, match=r"no data: give --data.dataset_name, or --data.train_file"):
        load_corpus()


def test_a_folder_without_files_of_splits(tmp_path):
    with pytest.raises(InputError, match="expected files named train, validation or test with a suffix of"):
        load_corpus(dataset_name=str(tmp_path))


def test_a_folder_with_two_files_for_a_split(write, tmp_path):
    write("dev.conll", IOB1)
    write("validation.jsonl", "")
    with pytest.raises(InputError, match=r"one file for validation, found validation\.jsonl, dev\.conll"):
        load_corpus(dataset_name=str(tmp_path))


def test_columns_may_look_a_little_like_another_kind(write):
    path = write("t.ann", "T1 B-PER\n[ O\nPK O\n")
    assert load_corpus(train_file=path, format="conll").labels == ["O", "B-PER", "I-PER"]
    assert load_corpus(train_file=write("t.tsv", "T1\tB-PER\n%PDF\tO\n")).labels == ["O", "B-PER", "I-PER"]


def test_a_repeated_label(write):
    with pytest.raises(InputError, match=r"labels: expected each label once, found \['O', 'O'\]"):
        load_corpus(train_file=write("t.conll", IOB1), labels=["O", "O"])


def test_no_train_split_and_no_labels(conll_files):
    with pytest.raises(InputError, match=r"no label list: give the train split .* or --data\.labels"):
        load_corpus(test_file=conll_files / "test.conll")


@pytest.mark.parametrize("labels", [None, LABELS])
def test_a_train_split_that_is_all_o(write, labels):
    with pytest.raises(InputError, match=r"t\.conll: every tag is O; expected entities or labels"):
        load_corpus(train_file=write("t.conll", "Mira O\nsleeps O\n"), labels=labels)


def test_a_tag_of_no_scheme(write):
    path = write("t.conll", "Mira B-PER\nsleeps O\n\nSorn LOC\n")
    with pytest.raises(InputError, match=r"t\.conll:4: tag 'LOC' belongs to no scheme"):
        load_corpus(train_file=path)


def test_a_tag_of_no_scheme_in_another_split(write):
    validation = write("v.conll", "-DOCSTART- O\n\nEdda B-PER\n\nleft O\nSorn LOC\n")
    with pytest.raises(InputError, match=r"v\.conll:6: tag 'LOC' belongs to no scheme"):
        load_corpus(train_file=write("t.conll", "Mira B-PER\n"), validation_file=validation)


def test_a_tag_that_the_given_scheme_lacks(write):
    path = write("t.conll", "Mira B-PER\nToll E-PER\n")
    with pytest.raises(InputError, match=r"t\.conll:2: tag 'E-PER' is not one of IOB2"):
        load_corpus(train_file=path, scheme="IOB2")


def test_tags_that_cannot_decide_the_scheme(write):
    with pytest.raises(InputError, match=r"t\.conll:1: .*IOB1 and IO both remain"):
        load_corpus(train_file=write("t.conll", "Mira I-PER\nsleeps O\n"))


def test_a_label_that_only_another_split_has(write):
    validation = write("v.conll", "Edda B-PER\n\nin O\nTarnby B-LOC\n")
    with pytest.raises(
        InputError, match=r"v\.conll:4: label B-LOC of the validation split is not in the label list O, B-PER"
    ):
        load_corpus(train_file=write("t.conll", "Mira B-PER\n"), validation_file=validation)


def test_labels_of_all_splits(write):
    train, test = write("t.conll", "Mira NNP\nsleeps VBZ\n"), write("v.conll", "whose WP$\nMira NNP\n")
    with pytest.raises(
        InputError, match=r"v\.conll:1: label WP\$ of the test split .*--data\.labels=all takes it from"
    ):
        load_corpus(train_file=train, test_file=test)
    corpus = load_corpus(train_file=train, test_file=test, labels="all")
    assert (corpus.labels, names(corpus, "test")) == (["NNP", "VBZ", "WP$"], [["WP$", "NNP"]])
    assert load_corpus(test_file=test, labels="all", scheme="plain").labels == ["NNP", "WP$"]


def test_a_tag_of_no_scheme_in_any_split_is_named_where_the_labels_of_all_are_asked_for(write):
    validation = write("v.conll", "Edda B-PER\nSorn LOC\n")
    with pytest.raises(InputError, match=r"v\.conll:2: tag 'LOC' belongs to no scheme"):
        load_corpus(train_file=write("t.conll", "Mira B-PER\n"), validation_file=validation, labels="all")


def test_a_label_that_the_given_list_lacks(write):
    with pytest.raises(
        InputError, match=r"t\.conll:2: label I-PER of the train split is not in the label list O, B-PER;"
    ):
        load_corpus(train_file=write("t.conll", "Mira B-PER\nToll I-PER\n"), labels=["O", "B-PER"])


def test_given_labels_that_the_scheme_cannot_spell(write):
    path = write("t.conll", "Mira S-PER\nToll O\n")
    with pytest.raises(InputError, match=r"t\.conll: tag 'PER' belongs to no scheme"):
        load_corpus(train_file=path, labels=["O", "PER"])


# The Hub.


@pytest.fixture
def mini(hub):
    hub.add_repo(
        "dataset",
        "user/mini",
        {
            "data/train-00000-of-00001.parquet": parquet(TRAIN),
            "data/validation-00000-of-00001.parquet": parquet(VALIDATION),
        },
    )
    return hub


def head(hub, name="user/mini", ref="main"):
    return hub.repo("dataset", name).refs[ref]


@pytest.fixture
def offline(monkeypatch):
    def _offline():
        import datasets
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    return _offline


def test_a_hub_dataset_records_its_commit(mini):
    corpus = load_corpus(dataset_name="user/mini")
    assert corpus.commit == head(mini)
    assert (corpus.labels, corpus.scheme) == (LABELS, "IOB2")
    assert corpus.splits.num_rows == {"train": 3, "validation": 2}
    assert names(corpus, "validation") == [["B-PER", "O"], ["B-LOC"]]


def test_the_revision_asked_for_is_loaded_not_the_last_one_cached(mini):
    first = head(mini)
    load_corpus(dataset_name="user/mini")
    mini.add_repo("dataset", "user/mini", {"data/train-00000-of-00001.parquet": parquet(VALIDATION)})
    assert load_corpus(dataset_name="user/mini").splits["train"].num_rows == 2
    corpus = load_corpus(dataset_name="user/mini", dataset_revision=first)
    assert (corpus.commit, corpus.splits["train"].num_rows) == (first, 3)


@pytest.mark.parametrize("alias", ["dev", "valid"])
def test_other_names_of_the_validation_split(hub, alias):
    hub.add_repo(
        "dataset", "user/other", {"data/train.parquet": parquet(TRAIN), f"data/{alias}.parquet": parquet(VALIDATION)}
    )
    readme = (
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        f"  - split: train\n    path: data/train.parquet\n  - split: {alias}\n    path: data/{alias}.parquet\n---\n"
    )
    hub.add_repo("dataset", "user/other", {"README.md": readme.encode()})
    assert load_corpus(dataset_name="user/other").splits.num_rows == {"train": 3, "validation": 2}


def configs(hub):
    files = {
        f"{name}/{split}.parquet": parquet(rows)
        for name, rows in (("en", TRAIN), ("de", VALIDATION))
        for split in ("train",)
    }
    readme = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train.parquet\n"
        for name in ("en", "de")
    )
    hub.add_repo("dataset", "user/two", {**files, "README.md": f"{readme}---\n".encode()})


def test_a_configuration(hub):
    configs(hub)
    assert load_corpus(dataset_name="user/two", dataset_config_name="de").splits.num_rows == {"train": 2}


def test_a_configuration_that_is_not_there(hub):
    configs(hub)
    with pytest.raises(InputError, match="user/two has no configuration fr; expected one of en, de"):
        load_corpus(dataset_name="user/two", dataset_config_name="fr")


def test_a_configuration_to_choose(hub):
    configs(hub)
    with pytest.raises(InputError, match="user/two has several configurations; give one of en, de"):
        load_corpus(dataset_name="user/two")


def test_a_configuration_of_a_dataset_without_any(mini):
    with pytest.raises(InputError, match="user/mini has no configuration fr; expected one of default"):
        load_corpus(dataset_name="user/mini", dataset_config_name="fr")


def converted(hub, **rows):
    files = {
        f"{name}/{split}/0000.parquet": parquet(table)
        for name, table in rows.items()
        for split in ("train", "validation")
    }
    hub.add_repo("dataset", "user/scripted", {"scripted.py": b"# a loading script\n"})
    hub.add_repo("dataset", "user/scripted", files, ref="refs/convert/parquet")


CONVERTED = "refs/convert/parquet"


def test_the_converted_branch_of_a_script_dataset(hub):
    converted(hub, only=TRAIN)
    corpus = load_corpus(dataset_name="user/scripted", dataset_revision=CONVERTED)
    assert (corpus.commit, corpus.splits["train"].num_rows) == (head(hub, "user/scripted", CONVERTED), 3)


def test_the_converted_branch_keeps_configurations_apart(hub):
    converted(hub, one=TRAIN, two=VALIDATION)
    corpus = load_corpus(dataset_name="user/scripted", dataset_revision=CONVERTED, dataset_config_name="two")
    assert corpus.splits["train"].num_rows == 2
    with pytest.raises(InputError, match="user/scripted has several configurations; give one of one, two"):
        load_corpus(dataset_name="user/scripted", dataset_revision=CONVERTED)


def test_a_script_dataset_says_which_revision_to_use(hub):
    converted(hub, only=TRAIN)
    with pytest.raises(
        InputError, match=r"--data\.dataset_name=user/scripted --data\.dataset_revision=refs/convert/parquet"
    ):
        load_corpus(dataset_name="user/scripted")


def test_a_script_dataset_is_not_answered_from_an_older_cached_copy(mini):
    load_corpus(dataset_name="user/mini")
    mini.add_repo("dataset", "user/mini", {"mini.py": b"# a loading script\n"})
    with pytest.raises(InputError, match="user/mini no longer loads"):
        load_corpus(dataset_name="user/mini")


def test_a_known_script_dataset_names_its_successor(hub):
    hub.add_repo("dataset", "eriktks/conll2003", {"conll2003.py": b"# a loading script\n"})
    with pytest.raises(InputError, match=r"conll2003 no longer loads.*--data\.dataset_name=tomaarsen/conll2003 "):
        load_corpus(dataset_name="eriktks/conll2003")


def test_the_successor_of_conll_2003_keeps_the_documents(hub):
    rows = {**TRAIN, "document_id": [4, 4, 7], "sentence_id": [0, 1, 0]}
    hub.add_repo("dataset", "tomaarsen/conll2003", {"conll2003.py": b"# a loading script\n"})
    files = {"conll2003/train/0000.parquet": parquet(rows)}
    hub.add_repo("dataset", "tomaarsen/conll2003", files, ref=CONVERTED)
    with pytest.raises(InputError, match=r"--data\.dataset_name=tomaarsen/conll2003 --data\.dataset_revision=refs"):
        load_corpus(dataset_name="tomaarsen/conll2003")
    corpus = load_corpus(dataset_name="tomaarsen/conll2003", dataset_revision=CONVERTED)
    assert corpus.splits["train"]["document_id"][:] == [4, 4, 7]
    assert corpus.splits["train"]["tokens"][:] == TRAIN["tokens"]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("conll2003", "--data.dataset_name=tomaarsen/conll2003 --data.dataset_revision=refs/convert/parquet$"),
        ("wnut_17", "--data.dataset_name=leondz/wnut_17 --data.dataset_revision=refs/convert/parquet$"),
    ],
)
def test_ids_of_former_times_are_answered_without_network(name, instead):
    with pytest.raises(InputError, match=f"dataset {name} no longer loads.*{instead}"):
        load_corpus(dataset_name=name)


@pytest.mark.parametrize(
    "name", ["mini", "./corpora/mine", "/corpora/mine", "corpora/mine/", "a/b/c", "~/mine", "../x"]
)
def test_a_name_that_is_no_id_and_no_folder(name):
    with pytest.raises(InputError, match="expected an id like lhoestq/conll2003 or an existing folder"):
        load_corpus(dataset_name=name)


def test_an_unknown_id(hub):
    with pytest.raises(InputError, match="user/nothing: the Hub shows no such dataset"):
        load_corpus(dataset_name="user/nothing")


@pytest.mark.parametrize("path", ["/api/datasets/user/mini", "/resolve/"])  # its page, or only its files
def test_a_gated_dataset(mini, path):
    mini.fail("*", path, 403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(InputError, match="user/mini is gated: accept its terms on the Hub"):
        load_corpus(dataset_name="user/mini")


def test_an_unknown_revision(mini):
    with pytest.raises(InputError, match="user/mini has no revision v9; expected a branch, tag or commit"):
        load_corpus(dataset_name="user/mini", dataset_revision="v9")


def test_a_dataset_without_known_splits(hub):
    hub.add_repo("dataset", "user/other", {"extra.parquet": parquet(TRAIN)})
    readme = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: extra\n    path: extra.parquet\n---\n"
    hub.add_repo("dataset", "user/other", {"README.md": readme.encode()})
    with pytest.raises(InputError, match="user/other: expected a split train, validation or test, found extra"):
        load_corpus(dataset_name="user/other")


def test_a_dataset_that_does_not_load(hub):
    hub.add_repo("dataset", "user/empty", {"notes.md": b"nothing\n"})
    with pytest.raises(InputError, match=f"user/empty does not load at commit {head(hub, 'user/empty')}: "):
        load_corpus(dataset_name="user/empty")


def test_a_cut_copy_of_a_hub_dataset_is_made_anew(mini, caches):
    rows = load_corpus(dataset_name="user/mini").splits["train"][:]
    (file,) = caches.rglob("mini-train.arrow")
    os.truncate(file, file.stat().st_size - 100)
    for path in (caches / "ner_lightning").iterdir():
        path.unlink()
    assert load_corpus(dataset_name="user/mini").splits["train"][:] == rows


def test_a_dataset_with_a_broken_card(mini):
    card = b"---\nconfigs:\n- config_name: default\n  data_files: 3\n---\n"
    mini.add_repo("dataset", "user/mini", {"README.md": card})
    with pytest.raises(InputError, match=r"user/mini does not load at commit .*: Expected data_files in YAML"):
        load_corpus(dataset_name="user/mini")


def test_datasets_falling_back_to_its_cache_is_an_error(mini):
    first = head(mini)
    load_corpus(dataset_name="user/mini")
    mini.add_repo("dataset", "user/mini", {"data/train-00000-of-00001.parquet": parquet(VALIDATION)})
    mini.fail("GET", "/tree/", 403, times=99)
    with pytest.raises(InputError, match=f"does not load at commit {head(mini)}; the cache holds commit {first}"):
        load_corpus(dataset_name="user/mini")


def test_hub_errors_name_the_row(hub):
    rows = rows_of("Edda/B-PER", "left/O Velan/B-MISC")
    plain = rows_of("Mira/B-PER sleeps/O")
    few = [name for name in DECLARED if "MISC" not in name]
    hub.add_repo("dataset", "user/mini", {"data/train.parquet": parquet(plain), "data/test.parquet": parquet(rows)})
    with pytest.raises(InputError, match="user/mini, test split, row 1: label B-MISC of the test split is not in"):
        load_corpus(dataset_name="user/mini", labels=few)


def test_numbers_on_the_hub_need_labels(hub):
    hub.add_repo("dataset", "user/mini", {"data/train.parquet": parquet(TRAIN, names=None)})
    with pytest.raises(
        InputError, match="user/mini, train split, row 0: the tags in ner_tags are numbers without names"
    ):
        load_corpus(dataset_name="user/mini")
    assert names(load_corpus(dataset_name="user/mini", labels=DECLARED))[0] == ["B-PER", "O"]


def test_declared_labels_of_no_scheme(hub):
    hub.add_repo("dataset", "user/mini", {"data/train.parquet": parquet(TRAIN, names=[*DECLARED, "MORE"])})
    with pytest.raises(InputError, match="user/mini, train split: tag 'MORE' belongs to no scheme"):
        load_corpus(dataset_name="user/mini")


# Without network.


def test_no_network_says_what_can_be_used():
    with pytest.raises(InputError, match=r"found 0; without network use files .*ner_lightning/quickstart"):
        load_corpus(dataset_name="user/mini")  # HF_HUB_OFFLINE is set


def test_a_hub_that_does_not_answer(mini):
    load_corpus(dataset_name="user/mini")
    mini.fail("GET", "/api/datasets/user/mini", None, times=99)
    cached = rf"HF_HUB_OFFLINE=1 with a cached copy \(default at {head(mini)}\)"
    with pytest.raises(InputError, match=f"the Hub cannot be reached .*without network use {cached}"):
        load_corpus(dataset_name="user/mini")


def test_offline_takes_the_cached_copy(mini, offline):
    online = load_corpus(dataset_name="user/mini")
    requests = len(mini.requests)
    offline()
    corpus = load_corpus(dataset_name="user/mini")
    assert (corpus.commit, corpus.labels) == (online.commit, online.labels)
    assert corpus.splits["train"][:] == online.splits["train"][:]
    assert len(mini.requests) == requests


def test_offline_a_cut_copy_is_told(mini, caches, offline):
    load_corpus(dataset_name="user/mini")
    (file,) = caches.rglob("mini-train.arrow")
    os.truncate(file, file.stat().st_size - 100)
    offline()
    with pytest.raises(InputError, match=r"user/mini: the cached copy in .* is cut; load it once with network"):
        load_corpus(dataset_name="user/mini")


def test_offline_keeps_revisions_apart(mini, offline):
    first = head(mini)
    load_corpus(dataset_name="user/mini", dataset_revision=first)
    mini.add_repo("dataset", "user/mini", {"data/train-00000-of-00001.parquet": parquet(VALIDATION)})
    load_corpus(dataset_name="user/mini")
    offline()
    assert load_corpus(dataset_name="user/mini").splits["train"].num_rows == 2
    assert load_corpus(dataset_name="user/mini", dataset_revision=first).splits["train"].num_rows == 3
    with pytest.raises(InputError, match=r"expected one cached copy of any configuration at v9, .* found 0"):
        load_corpus(dataset_name="user/mini", dataset_revision="v9")


def test_offline_finds_the_converted_branch(hub, offline):
    converted(hub, only=TRAIN)
    online = load_corpus(dataset_name="user/scripted", dataset_revision=CONVERTED)
    offline()
    assert load_corpus(dataset_name="user/scripted", dataset_revision=CONVERTED).commit == online.commit


def test_offline_does_not_choose_a_configuration(hub, offline):
    configs(hub)
    for name in ("en", "de"):
        load_corpus(dataset_name="user/two", dataset_config_name=name)
    offline()
    assert load_corpus(dataset_name="user/two", dataset_config_name="de").splits["train"].num_rows == 2
    with pytest.raises(InputError, match=r"expected one cached copy of any configuration at main, .* found 2"):
        load_corpus(dataset_name="user/two")
