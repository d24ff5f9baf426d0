"""Data of every format through the datamodule: it reads, trains, and what is malformed is told in one sentence."""

import json
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from ner_lightning.corpus import load_corpus
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.model import TokenClassificationModule
from ner_lightning.readers import ReadOptions, read

DATA = Path(__file__).parents[2] / "shared/data"

pytestmark = [
    pytest.mark.usefixtures("caches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),  # there is no validation split
]

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}

# the same corpus in all formats
SENTENCES = [
    (["Mira", "Toll", "visited", "Arvenholm", "."], ["B-PER", "I-PER", "O", "B-LOC", "O"]),
    (["The", "Ostric", "Cup", "began", "."], ["O", "B-MISC", "I-MISC", "O", "O"]),
]
LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-PER", "I-PER"]
TEXTS = ["Mira Toll visited Arvenholm.", "The Ostric Cup began."]
ENTITIES = [[(0, 9, "PER"), (18, 27, "LOC")], [(4, 14, "MISC")]]


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def dicts(start="start", end="end", label="label"):
    return [[{start: s, end: e, label: t} for s, e, t in entities] for entities in ENTITIES]


def triples():
    return [[list(entity) for entity in entities] for entities in ENTITIES]


def texts(field, entities, text="text"):
    return [{text: one, field: found} for one, found in zip(TEXTS, entities, strict=True)]


def tasks():
    def result(entities):
        return [{"type": "labels", "value": {"start": s, "end": e, "labels": [t]}} for s, e, t in entities]

    return [
        {"data": {"text": text}, "annotations": [{"was_cancelled": False, "result": result(entities)}]}
        for text, entities in zip(TEXTS, ENTITIES, strict=True)
    ]


def tokens():
    return [{"tokens": words, "ner_tags": tags} for words, tags in SENTENCES]


def table(separator):
    rows = [(n, word, tag) for n, (words, tags) in enumerate(SENTENCES) for word, tag in zip(words, tags, strict=True)]
    return "".join(separator.join(map(str, row)) + "\n" for row in [("sentence_id", "word", "tag"), *rows])


def columns(separator=" ", comment=""):
    sentences = ["".join(f"{w}{separator}{t}\n" for w, t in zip(*one, strict=True)) for one in SENTENCES]
    return "\n".join(comment + sentence for sentence in sentences)


def ann(entities, text):
    return "".join(f"T{n}\t{t} {s} {e}\t{text[s:e]}\n" for n, (s, e, t) in enumerate(entities, start=1))


BRAT = {f"{name}.txt": text for name, text in zip("ab", TEXTS, strict=True)} | {
    f"{name}.ann": ann(*pair) for name, *pair in zip("ab", ENTITIES, TEXTS, strict=True)
}
LISTS = f'tokens,ner_tags\n"{SENTENCES[0][0]}","{SENTENCES[0][1]}"\n"{SENTENCES[1][0]}","{SENTENCES[1][1]}"\n'

# name -> files, options, and the malformed sibling with what is said of it
FORMATS = {
    "conll": ({"a.conll": columns()}, {}, {"a.conll": columns() + "left\n"}, r"a\.conll:12: expected 2 columns"),
    "other suffix": ({"a.iob": columns("\t")}, {}, {"a.iob": "Mira\tB-PER\nToll\t\n"}, r"a\.iob:2: expected a tag"),
    "comments": (
        {"a.conll": columns(comment="# id 7\n")},
        {"comment_prefix": "#"},
        {"a.conll": "# id 7\nMira B-PER\nToll\n"},
        r"a\.conll:3: expected 2 columns, as on line 2",
    ),
    "tokens": ({"a.jsonl": lines(*tokens())}, {}, {"a.jsonl": lines({"tokens": "x"})}, r"a\.jsonl:1: expected a list"),
    "array": (
        {"a.json": json.dumps(tokens(), indent=1)},
        {},
        {"a.json": json.dumps(tokens(), indent=1)[:-1]},
        r"a\.json:34: expected , in the JSON array, found",
    ),
    "spaCy": (
        {"a.json": json.dumps(texts("entities", triples()))},
        {},
        {"a.json": json.dumps([{"text": "Mira", "entities": [[0, 9, "PER"]]}])},
        r"a\.json:1: entity 1 \(PER, 0 to 9\) ends behind the text",
    ),
    "Prodigy": (
        {"a.jsonl": lines(*texts("spans", dicts()))},
        {},
        {"a.jsonl": lines({"text": "Mira", "spans": [{"start": 1, "end": 4, "label": "PER"}]})},
        r"a\.jsonl:1: entity 1 \(PER, 1 to 4\) begins inside the word 'Mira'",
    ),
    "doccano": (
        {"a.jsonl": lines(*texts("label", triples()))},
        {},
        {"a.jsonl": lines({"text": "Mira", "label": [[0, 4]]})},
        r"a\.jsonl:1: entity 1: expected an object with start, end and label",
    ),
    "our predictions": (
        {"a.jsonl": lines(*texts("entities", dicts(label="type")))},
        {},
        {"a.jsonl": lines({"text": "a b", "entities": [[0, 3, "X"], [2, 3, "Y"]]})},
        r"a\.jsonl:1: entity 1 \(X, 0 to 3\) and entity 2 \(Y, 2 to 3\) overlap",
    ),
    "privacy mask": (
        {"a.jsonl": lines(*texts("privacy_mask", dicts(), text="source_text"))},
        {},
        {"a.jsonl": lines({"source_text": "Mira", "privacy_mask": [{"start": 0, "end": 4}]})},
        r"a\.jsonl:1: entity 1: expected a type",
    ),
    "Label Studio": (
        {"a.json": json.dumps(tasks())},
        {},
        {"a.json": json.dumps([{"data": {"text": "x"}, "annotations": [{"result": [{"value": {"labels": ["X"]}}]}]}])},
        r"a\.json:1: annotation 1: expected the number of a character in start",
    ),
    "CSV": ({"a.csv": table(",")}, {}, {"a.csv": table(",") + "2,left\n"}, r"a\.csv:12: expected 3 cells"),
    "TSV": ({"a.tsv": table("\t")}, {}, {"a.tsv": table("\t") + "2\tleft\t\n"}, r"a\.tsv:12: expected a tag in tag"),
    "CSV with lists": ({"a.csv": LISTS}, {}, {"a.csv": LISTS + "['a'],[]\n"}, r"a\.csv:4: expected a list of 1 tags"),
    "brat": (BRAT, {}, {**BRAT, "a.ann": "T1\tPER 0 4;5 9\tMira Toll\n"}, r"a\.ann:1: T1 \(PER, 0 4;5 9\) has parts"),
    "numbers": (
        {"a.jsonl": lines(*({"tokens": w, "ner_tags": [LABELS.index(tag) for tag in t]} for w, t in SENTENCES))},
        {"labels": LABELS},
        {"a.jsonl": lines({"tokens": ["Mira"], "ner_tags": [7]})},
        r"a\.jsonl:1: expected a tag from 0 to 6 in ner_tags, found 7",
    ),
}


@pytest.fixture
def save(tmp_path):
    """Write files, and give the one to read: the only one, or the folder of brat."""

    def write(files):
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        return str(folder / next(iter(files)) if len(files) == 1 else folder)

    return write


@pytest.fixture
def make(tiny_model):
    def make(**options):
        return TokenClassificationDataModule(model_name_or_path=str(tiny_model), **options)

    return make


@pytest.fixture
def trained(tiny_model, tmp_path):
    """Train one step."""

    def train(data):
        once = {"max_steps": 1, "limit_val_batches": 0, "enable_checkpointing": False}
        trainer = Trainer(default_root_dir=tmp_path, **once, **QUIET)
        trainer.fit(TokenClassificationModule(str(tiny_model), labels=data.labels), data)
        return trainer.global_step

    return train


def content(data, split="train"):
    rows = data.corpus.splits[split]
    tags = [[data.labels[tag] for tag in row] for row in rows["tags"]]
    return list(zip(rows["tokens"], tags, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_trains(save, make, trained, name):
    files, options, _, _ = FORMATS[name]
    data = make(train_file=save(files), **options)
    assert (content(data), data.labels) == (SENTENCES, LABELS)
    assert trained(data) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_malformed_in_a_format_is_one_sentence_with_its_place(save, make, name):
    _, options, files, expected = FORMATS[name]
    with pytest.raises(InputError, match=expected) as caught:
        make(train_file=save(files), **options).train_dataloader()
    assert "\n" not in str(caught.value)


def parquet(path, table):
    import datasets

    datasets.Dataset.from_dict(table).to_parquet(str(path))
    return str(path)


def test_parquet_has_sentences_words_or_texts(make, trained, tmp_path):
    words, tags = (list(column) for column in zip(*SENTENCES, strict=True))
    flat = [(number, *pair) for number, one in enumerate(SENTENCES) for pair in zip(*one, strict=True)]
    ids, each_word, each_tag = (list(column) for column in zip(*flat, strict=True))
    for table in (
        {"tokens": words, "ner_tags": tags},
        {"sentence_id": ids, "word": each_word, "tag": each_tag},
        {"text": TEXTS, "entities": dicts()},
    ):
        data = make(train_file=parquet(tmp_path / "a.parquet", table))
        assert content(data) == SENTENCES
        assert trained(data) == 1


def test_a_word_of_parquet_is_named_by_its_row(make, tmp_path):
    table = {"sentence_id": [1, 1, 2], "word": ["Mira", "left", "Sorn"], "tag": ["B-PER", "O", "LOC"]}
    path = parquet(tmp_path / "a.parquet", table)
    with pytest.raises(InputError, match=r"a\.parquet, row 2: tag 'LOC' belongs to no scheme"):
        make(train_file=path).train_dataloader()


def test_rows_in_memory_train_like_a_file(make, trained, tiny_model):
    import datasets

    model = {"model_name_or_path": str(tiny_model)}
    for rows in (tokens(), texts("entities", triples()), datasets.Dataset.from_list(tokens())):
        data = TokenClassificationDataModule.from_rows(train=rows, validation=rows, **model)
        assert content(data) == content(data, "validation") == SENTENCES
        assert trained(data) == 1
        assert data.describe()["source"]["files"] == "train rows in memory, validation rows in memory"
    data = TokenClassificationDataModule.from_rows(train=tokens(), **model)
    again = TokenClassificationDataModule.from_rows(train=[*tokens()[:1], tokens()[0]], **model)
    assert content(again) == [SENTENCES[0]] * 2 != content(data)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (3, "train rows: expected a list of dicts or a datasets.Dataset, found 3"),
        ("a.jsonl", "train rows: expected a list of dicts or a datasets.Dataset, found 'a.jsonl'"),
        ([], "train rows: expected rows, found none"),
        ([{"tokens": ["a"], "ner_tags": ["O"]}, 7], "train rows, row 1: expected a dict, found 7"),
        ([{"tokens": ["a"]}], "train rows, row 0: expected tags or entities, found none"),
        (
            [{"tokens": ["a"], "ner_tags": ["B-X"]}, {"tokens": ["a"], "ner_tags": [0]}],
            "train rows, row 1: the tags in",
        ),
    ],
)
def test_rows_in_memory_that_are_none_are_told(tiny_model, rows, expected):
    data = TokenClassificationDataModule.from_rows(train=rows, model_name_or_path=str(tiny_model))
    with pytest.raises(InputError, match=expected):
        data.train_dataloader()


def test_rows_in_memory_and_a_file_go_together(save, tiny_model):
    path = save({"a.conll": columns()})
    data = TokenClassificationDataModule.from_rows(train=tokens(), test_file=path, model_name_or_path=str(tiny_model))
    assert content(data, "test") == content(data) == SENTENCES


# offsets


def as_offsets(path, target):
    """Write a column file as texts with entities, words with spaces between them."""
    with target.open("w", encoding="utf-8") as file:
        corpus = load_corpus(test_file=path, labels="all")
        names = corpus.labels
        for row in corpus.splits["test"]:
            text, entities, start = " ".join(row["tokens"]), [], 0
            for word, tag in zip(row["tokens"], row["tags"], strict=True):
                end = start + len(word)
                if names[tag].startswith("B-"):
                    entities.append([start, end, names[tag][2:]])
                elif names[tag] != "O":
                    entities[-1][1] = end
                start = end + 1
            record = {"text": text, "entities": entities, "document_id": row["document_id"]}
            file.write(json.dumps(record) + "\n")
    return str(target)


def scored(data, tiny_model, tmp_path):
    trainer = Trainer(default_root_dir=tmp_path, **QUIET)
    torch.manual_seed(0)
    (scores,) = trainer.test(TokenClassificationModule(str(tiny_model), labels=data.labels), data, verbose=False)
    return scores


def check_offsets(path, labels, make, tiny_model, tmp_path):
    file = as_offsets(path, tmp_path / "offsets.jsonl")
    given = make(test_file=str(path), labels=labels)
    made = make(test_file=file, labels=labels, split_at="spaces")
    assert made.corpus.splits["test"][:] == given.corpus.splits["test"][:]
    assert scored(made, tiny_model, tmp_path) == scored(given, tiny_model, tmp_path)


def test_offsets_give_the_score_of_the_column_file(conll_files, make, tiny_model, tmp_path):
    labels = load_corpus(train_file=conll_files / "train.conll").labels
    check_offsets(conll_files / "test.conll", labels, make, tiny_model, tmp_path)


@pytest.mark.slow
@pytest.mark.corpora
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real corpora are not at {DATA}")
def test_offsets_of_conll_2003_give_the_score_of_the_column_file(make, tiny_model, tmp_path):
    labels = ["O", *(f"{prefix}-{type_}" for type_ in ("LOC", "MISC", "ORG", "PER") for prefix in "BI")]
    check_offsets(DATA / "conll2003/eng.testb", labels, make, tiny_model, tmp_path)


def test_entities_with_offsets_need_no_scheme(save, make):
    one_word = {"text": "Mira left", "entities": [[0, 4, "PER"]]}
    data = make(train_file=save({"a.jsonl": lines(one_word)}))
    assert (data.corpus.scheme, content(data)) == ("IOB2", [(["Mira", "left"], ["B-PER", "O"])])
    path = save({"a.jsonl": lines(one_word)})
    with pytest.raises(InputError, match=r"a\.jsonl: --data\.scheme=BIOES is for tags, found entities with character"):
        make(train_file=path, scheme="BIOES").train_dataloader()
    with pytest.raises(InputError, match=r"every tag is O"):
        make(train_file=save({"b.jsonl": lines({"text": "Mira", "entities": []})})).train_dataloader()


def test_offsets_and_tags_of_another_scheme_go_together(save, make):
    conll = save({"a.conll": "Edda I-PER\nVoss I-PER\nTarnby I-LOC\n\nSorn I-LOC\nHal I-PER\nMinnow B-PER\n"})
    jsonl = save({"a.jsonl": lines(*texts("entities", triples()))})
    data = make(train_file=[jsonl, conll])
    assert (data.corpus.scheme, data.labels) == ("IOB1", LABELS)
    tags = [["B-PER", "I-PER", "B-LOC"], ["B-LOC", "B-PER", "B-PER"]]
    assert [row[1] for row in content(data)] == [*(tags for _, tags in SENTENCES), *tags]


def test_what_entities_become_can_be_chosen(save, make):
    inside = save({"a.jsonl": lines({"text": "Mira's hat", "entities": [[1, 3, "PER"]]})})
    assert content(make(train_file=inside, span_alignment="expand"))[0][1][0] == "B-PER"
    both = save({"b.jsonl": lines({"text": "a b c", "entities": [[0, 1, "X"], [0, 5, "Y"]]})})
    assert content(make(train_file=both, overlapping="longest"))[0][1] == ["B-Y", "I-Y", "I-Y"]
    spaces = save({"c.jsonl": lines({"text": "a-b c", "entities": [[0, 3, "X"]]})})
    assert content(make(train_file=spaces, split_at="spaces")) == [(["a-b", "c"], ["B-X", "O"])]
    typeless = save({"d.jsonl": lines({"text": "a b", "entities": [{"start": 0, "end": 1}]})})
    assert content(make(train_file=typeless, entity_type="X"))[0][1] == ["B-X", "O"]


def annotated(by, *entities):
    return {
        "completed_by": by,
        "result": [{"value": {"start": s, "end": e, "labels": [t]}} for s, e, t in entities],
    }


def test_one_of_several_annotators_is_read_and_what_none_annotated_is_left_out_and_said(save, make, caplog):
    tasks = [
        {"data": {"text": "Mira left"}, "annotations": [annotated(1, (0, 4, "PER")), annotated(2, (0, 4, "ORG"))]},
        {"data": {"text": "Sorn froze"}, "annotations": [annotated(1, (0, 4, "LOC"))]},
    ]
    path = save({"a.json": json.dumps(tasks)})
    assert [tags[0] for _, tags in content(make(train_file=path))] == ["B-PER", "B-LOC"]
    assert not caplog.messages
    for _ in range(2):  # the second is read from the cache
        assert [tags[0] for _, tags in content(make(train_file=path, annotator=2))] == ["B-ORG"]
    said = f"{path}: 1 of 2 rows have no annotation and are left out, the first is {path}:1"
    assert caplog.messages == [said] * 2
    with pytest.raises(InputError, match=r"a\.json:1: expected tags or entities, found none by 3 \(--data"):
        make(train_file=path, annotator=3).train_dataloader()


def test_an_error_behind_rows_that_are_left_out_names_its_own_place(save, make):
    rows = [{"text": "a", "entities": None}, {"text": "b", "entities": []}, {"text": "c", "entities": [[0, 1, "X"]]}]
    with pytest.raises(InputError, match=r"a\.jsonl:3: label B-X of the train split is not in the label list"):
        make(train_file=save({"a.jsonl": lines(*rows)}), labels=["O", "B-Y"]).train_dataloader()


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [("a.txt", "Mira left.\n", "text"), ("a.conll", "Mira\nleft\n", "conll"), ("a.csv", "text\nMira left\n", "csv")],
)
def test_data_without_tags_is_refused_for_training(save, make, name, text, format):
    expected = rf"{name}:\d: expected tags or entities, found none in what was read as {format}; --data\.label_column"
    with pytest.raises(InputError, match=expected):
        make(train_file=save({name: text})).train_dataloader()


# labels, formats and several files


def test_labels_may_stand_in_a_file(save, make, caplog):
    numbers = lines({"tokens": ["Mira", "Toll"], "ner_tags": [1, 2]})
    path = save({"a.jsonl": numbers})
    for names in ("label.json", "labels.txt"):
        text = json.dumps({"O": 0, "B-PER": 1, "I-PER": 2}) if names == "label.json" else "O\nB-PER\nI-PER\n"
        data = make(train_file=path, labels=save({names: text}))
        assert content(data) == [(["Mira", "Toll"], ["B-PER", "I-PER"])]
        assert data.state_dict()["given_labels"] == data.labels == ["O", "B-PER", "I-PER"]
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        make(train_file=path, labels="none.json").train_dataloader()


def test_the_format_can_be_given(save, make):
    path = save({"a.txt": "Mira NNP\nleft VBD\n"})
    data = make(train_file=path, format="conll")
    assert data.labels == ["NNP", "VBD"]
    assert data.hparams["format"] == "conll"
    table = save({"b.tsv": "form\tpos\tsent\nMira\tNNP\t1\nleft\tVBD\t1\nyes\tUH\t2\n"})
    names = {"text_column_name": "form", "label_column_name": "pos", "sentence_column_name": "sent"}
    assert content(make(train_file=table, format="tsv", **names)) == [
        (["Mira", "left"], ["NNP", "VBD"]),
        (["yes"], ["UH"]),
    ]


def test_several_files_are_one_split_whose_documents_stay_apart(save, make, trained):
    one, two = save({"a.conll": columns()}), save({"b.jsonl": lines(*texts("entities", dicts()))})
    data = make(train_file=[one, two], validation_file=[one])
    assert content(data) == SENTENCES * 2
    documents = data.corpus.splits["train"]["document_id"][:]
    assert (documents[0] == documents[1], len(set(documents))) == (True, 3)
    assert trained(data) == 1
    assert (data.hparams["train_file"], data.hparams["validation_file"]) == ([one, two], [one])
    assert data.describe()["source"]["files"] == f"{one}, {two}, {one}"


def test_an_error_in_one_of_several_files_names_it(save, make):
    one, two = save({"a.conll": columns()}), save({"b.conll": "left O\nSorn LOC\n"})
    with pytest.raises(InputError, match=r"b\.conll:2: tag 'LOC' belongs to no scheme"):
        make(train_file=[one, two]).train_dataloader()


def test_the_home_of_the_user_may_be_written_as_a_tilde(save, make, monkeypatch):
    path = Path(save({"a.conll": columns()}))
    monkeypatch.setenv("HOME", str(path.parent))
    assert content(make(train_file=Path("~/a.conll"))) == content(make(train_file="~/a.conll")) == SENTENCES


def test_a_folder_of_brat_folders_is_a_corpus(save, make, tmp_path):
    for split in ("train", "dev"):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        for name, text in BRAT.items():
            (tmp_path / "corpus" / split / name).write_text(text)
    data = make(dataset_name=str(tmp_path / "corpus"))
    assert content(data) == content(data, "validation") == SENTENCES
    assert data.corpus.splits["train"]["document_id"][:] == [0, 1]


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--data.train_file=[a.conll, b.conll]", "train_file", ["a.conll", "b.conll"]),
        ("--data.train_file=a.conll", "train_file", "a.conll"),
        ("--data.labels=label.json", "labels", "label.json"),
        ("--data.labels=[O, B-X]", "labels", ["O", "B-X"]),
        ("--data.labels=all", "labels", "all"),
        ("--data.comment_prefix=#", "comment_prefix", "#"),
        ("--data.comment_prefix=# id", "comment_prefix", "# id"),
        ("--data.annotator=7", "annotator", 7),
        ("--data.validation_split=0.1", "validation_split", 0.1),
    ],
)
def test_options_are_read_from_the_command_line(argument, name, value):
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(TokenClassificationDataModule, "data")
    assert parser.parse_args([argument]).data[name] == value


# a share of the training data for validation


def documents_of(sizes):
    """Rows of documents of some sizes, each row with a number of its own as its word."""
    numbers = iter(range(sum(sizes)))
    return [
        {"tokens": [str(next(numbers))], "ner_tags": ["B-X"], "document_id": document}
        for document, size in enumerate(sizes)
        for _ in range(size)
    ]


def shared_out(rows, share, seed=0):
    splits = load_corpus(rows={"train": rows}, validation_split=share, seed=seed).splits
    return ([int(words[0]) for words in splits[split]["tokens"]] for split in ("train", "validation"))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 1),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_a_share_of_the_documents_is_for_validation(sizes, share, seed):
    rows = documents_of(sizes)
    train, validation = shared_out(rows, share, seed)
    assert train
    assert validation
    assert sorted(train + validation) == list(range(len(rows)))
    assert (train, validation) == (sorted(train), sorted(validation))
    if len(sizes) > 1:
        assert not {rows[i]["document_id"] for i in train} & {rows[i]["document_id"] for i in validation}
    largest = max(sizes) if len(sizes) > 1 else 1
    assert abs(len(validation) - share * len(rows)) <= largest
    assert (train, validation) == tuple(shared_out(rows, share, seed))


def test_another_seed_takes_other_rows(make, monkeypatch):
    rows = documents_of([1] * 40)
    chosen = {seed: list(shared_out(rows, 0.25, seed))[1] for seed in (1, 2)}
    assert (len(chosen[1]), chosen[1] == chosen[2]) == (10, False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    data = TokenClassificationDataModule.from_rows(train=rows, validation_split=0.25)
    assert [int(words[0]) for words in data.corpus.splits["validation"]["tokens"]] == chosen[2]


def test_a_column_file_of_one_document_is_shared_out_by_sentences(save, make, trained):
    data = make(train_file=save({"a.conll": columns() + "\n" + columns()}), validation_split=0.5)
    assert data.corpus.splits.num_rows == {"train": 2, "validation": 2}
    assert trained(data) == 1
    assert data.hparams["validation_split"] == 0.5


def test_labels_of_the_share_are_known(save, make):
    data = make(train_file=save({"a.conll": columns()}), validation_split=0.5)
    assert data.labels == LABELS


def test_rows_that_are_not_annotated_are_in_neither_part():
    rows = [{"text": str(i), "entities": [[0, 1, "X"]] if i % 3 else None} for i in range(9)]
    train, validation = shared_out(rows, 0.5)
    assert sorted(train + validation) == [i for i in range(9) if i % 3]


def test_a_validation_split_that_is_given_wins_and_that_is_said(save, make, caplog):
    path = save({"a.conll": columns()})
    with caplog.at_level(logging.WARNING):
        data = make(train_file=path, validation_file=path, validation_split=0.5)
        assert data.corpus.splits.num_rows == {"train": 2, "validation": 2}
    assert caplog.messages == [f"--data.validation_split=0.5 is not used, as there is a validation split: {path}"]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, 10])
def test_a_share_that_is_none_is_refused(make, share):
    with pytest.raises(InputError, match=rf"--data\.validation_split={share}: give a share between 0 and 1"):
        make(validation_split=share)


def test_a_share_of_nothing_is_refused(save, make):
    path = save({"a.conll": "Mira B-PER\n"})
    with pytest.raises(InputError, match=r"a\.conll: --data\.validation_split=0\.5 needs two rows or more, found one"):
        make(train_file=path, validation_split=0.5).train_dataloader()
    with pytest.raises(InputError, match=r"--data\.validation_split=0\.5 is a share of the train split, and there is"):
        make(test_file=path, validation_split=0.5, labels=LABELS).test_dataloader()


def test_reading_for_training_gives_what_the_reader_gives(save, make):
    path = save({"a.conll": columns()})
    rows = list(read(path, options=ReadOptions()))
    assert content(make(train_file=path)) == [(row.words, row.tags) for row in rows]
