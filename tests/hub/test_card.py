"""The card: what the Hub's own client reads in it, what a reader sees, and what must not stand there."""

import ast
import re
from math import inf, isfinite, nan

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ner_lightning.hub.card import CardFacts, model_card
from ner_lightning.quickstart import FOLDER
from ner_lightning.scores import SplitScores

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
OVERALL = {
    "precision": 0.5,
    "recall": 0.25,
    "f1": 1 / 3,
    "accuracy": 0.75,
    "loss": 1.25,
    "words": 51362.0,
    "support": 9.0,
}
SCORES = OVERALL | {"precision_LOC": 1.0, "recall_LOC": 0.125, "f1_LOC": 0.2222, "support_LOC": 1234.0}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = {"dataset": "mira/places", "config": "small", "commit": COMMIT}
FACTS = {
    "labels": LABELS,
    "splits": [SplitScores("train", **HUB), SplitScores("test", **HUB, scores=SCORES)],
    "base_model": "mira/bert",
    "base_revision": None,
    "global_step": 1200,
    "epoch": 3,
    "lora_rank": None,
    "label_all_tokens": False,
    "max_seq_length": 128,
    "context": "sentence",
    "separator": "[SEP]",
    "score_mode": "default",
    "decoding": "argmax",
    "command": None,
    "config": None,
    "versions": {"torch": "2.0"},
    "marks_subwords": True,
    "needs_spaces": False,
}
# what YAML takes for something else than text, or for signs of its own
ODD = [
    *("yes no null ~ 1.0 1e3 1_000 12:30 2024-01-01 .nan 0x1f = << --- ... %a @a &a *a !a !!binary | ``` {a}".split()),
    *("'a'", '"', "a: b # c", "-  a", "中文", "😀", "עברית", "a\n---\nb", "\u2028a\x85\x07\ufeff", "\\", "word " * 60),
]
TEXT = st.sampled_from(ODD) | st.text(max_size=20)
NAME = TEXT.map(lambda text: " ".join(text.split()) or "a")  # on one line, as every id and file name is


def card(title="places", **facts):
    return model_card(CardFacts(title=title, **(FACTS | facts)))


def metadata(text):
    """The front matter as the Hub's client reads it, which must be what any YAML parser reads."""
    from huggingface_hub import ModelCard

    data = ModelCard(text).data.to_dict()
    assert data == yaml.safe_load(text.removeprefix("---\n").partition("\n---\n")[0])
    return data


def body(text):
    return text.partition("\n---\n")[2]


def section(text, title):
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", body(text), re.MULTILINE | re.DOTALL).group(1).strip()


def cells(line):
    """What a reader sees in the cells of a line of a table: a backslash hides the sign behind it."""
    found = re.findall(r"((?:\\.|[^\\|])*)\|", line.removeprefix("|"))
    return [re.sub(r"\\(.)", r"\1", cell).strip() for cell in found]


def rows(text):
    return [cells(line) for line in text.splitlines() if line.startswith("|")]


def fenced(text, language):
    """The content of the block of a language, as CommonMark finds the ends of blocks."""
    blocks, fence = {}, None
    for line in body(text).splitlines(keepends=True):
        if fence is None and (opening := re.fullmatch(r"(`{3,})([a-z]+)\n", line)):
            fence, content = opening[1], blocks.setdefault(opening[2], [])
        elif fence is not None and re.fullmatch(rf" {{0,3}}{fence}`*\s*", line):
            fence = None
        elif fence is not None:
            content.append(line)
    assert fence is None, "a block has no end"
    return "".join(blocks[language])


@settings(deadline=None, max_examples=150)
@given(
    title=NAME,
    dataset=NAME,
    config=st.none() | NAME,
    commit=st.none() | NAME,
    language=st.lists(NAME, min_size=1, max_size=2),
    license=NAME,
    base_model=NAME,
    widget_examples=st.lists(NAME, min_size=1, max_size=2),
    values=st.tuples(st.floats(), st.floats(), st.floats(), st.floats()),
    type_=NAME,
    command=TEXT,
    run=TEXT,
)
def test_the_client_reads_the_metadata_that_was_given(
    title, dataset, config, commit, language, license, base_model, widget_examples, values, type_, command, run
):
    values = dict(zip(("precision", "recall", "f1", "accuracy"), values, strict=True))
    text = card(
        title,
        labels=["O", f"B-{type_}", f"I-{type_}"],
        splits=[
            SplitScores("test", dataset=dataset, config=config, commit=commit, scores=values | {f"f1_{type_}": nan})
        ],
        language=language,
        license=license,
        base_model=base_model,
        widget_examples=widget_examples,
        command=command,
        config=run,
    )
    finite = {name: value for name, value in values.items() if isfinite(value)}
    expected = {
        "base_model": base_model,
        "datasets": [dataset],
        "language": language,
        "library_name": "transformers",
        "license": license,
        "pipeline_tag": "token-classification",
        "tags": ["ner-lightning"],
        "widget": [{"text": example} for example in widget_examples],
    }
    if finite:
        where = {"name": dataset, "type": dataset, "config": config, "split": "test", "revision": commit}
        result = {
            "task": {"type": "token-classification", "name": "Named Entity Recognition"},
            "dataset": {key: value for key, value in where.items() if value is not None},
            "metrics": [
                {"type": name, "value": value, "name": name.capitalize()}
                | ({} if name == "accuracy" else {"args": {"mode": "default"}})
                for name, value in finite.items()
            ],
        }
        expected |= {"metrics": list(finite), "model-index": [{"name": title, "results": [result]}]}
    assert metadata(text) == expected


def test_the_client_gives_back_one_result_a_metric_and_split():
    from huggingface_hub import ModelCard

    files = [SplitScores(name, file=f"{name}.conll", scores=SCORES) for name in ("validation", "test")]
    found = ModelCard(card(splits=files)).data.eval_results
    assert [(result.dataset_split, result.metric_type, result.metric_value) for result in found] == [
        (split, name, SCORES[name])
        for split in ("validation", "test")
        for name in ("precision", "recall", "f1", "accuracy")
    ]


def test_numbers_of_numpy_are_written_as_plain_numbers():
    scores = {"f1": np.float64(0.5), "precision": np.float32(0.25)}
    text = card(splits=[SplitScores("test", **HUB, scores=scores)])
    assert "!!" not in text
    assert [metric["value"] for metric in metadata(text)["model-index"][0]["results"][0]["metrics"]] == [0.25, 0.5]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_number_that_is_none_is_not_in_the_metadata_and_not_measured_in_the_text(value):
    text = card(splits=[SplitScores("test", **HUB, scores=SCORES | {"f1": value, "loss": value})])
    assert metadata(text)["metrics"] == ["precision", "recall", "accuracy"]
    assert ["**all**", "50.00", "25.00", "not measured", "9"] in [
        [cell.replace("\\", "") for cell in row] for row in rows(body(text))
    ]
    assert "loss not measured" in body(text)


def test_without_a_score_there_is_no_model_index():
    for scores in ({}, {"f1": nan}):
        text = card(splits=[SplitScores("train", **HUB), SplitScores("validation", **HUB, scores=scores)])
        assert not {"model-index", "model_name", "eval_results", "metrics"} & metadata(text).keys()
        assert metadata(text)["datasets"] == ["mira/places"]


def test_a_model_that_was_not_scored_says_so():
    assert section(card(splits=[SplitScores("train", **HUB)]), "Scores") == "This model has not been scored."


@pytest.mark.parametrize(
    ("path", "loader"),
    [
        ("/home/mira/secret/eng.test", "conll"),
        ("secret/test.conllu", "conll"),
        ("C:\\Users\\mira\\secret\\test.JSONL", "json"),
        ("../secret/test.json", "json"),
        ("secret/test.parquet", "parquet"),
    ],
)
def test_of_a_file_the_name_is_told_and_not_the_folder(path, loader):
    text = card(
        splits=[SplitScores("train", file=path), SplitScores("test", file=path, scores=SCORES)], base_model=None
    )
    name = re.split(r"[\\/]", path)[-1]
    assert metadata(text)["model-index"][0]["results"][0]["dataset"] == {"name": name, "type": loader, "split": "test"}
    assert "datasets" not in metadata(text)
    assert "secret" not in text
    assert f"trained on `{name}`." in text


def test_files_of_other_splits_are_not_named_as_training_data():
    text = card(splits=[SplitScores("test", file="dev.conll", scores=SCORES)])
    assert "fine-tuned from [mira/bert](https://huggingface.co/mira/bert).\n" in text


def test_what_is_not_known_is_not_in_the_metadata():
    text = card(base_model=None, splits=[])
    assert metadata(text).keys() == {"library_name", "pipeline_tag", "tags", "widget"}


def test_a_title_and_sentences_of_several_lines_become_one_line():
    text = card("two\n\n---\nlines", widget_examples=["Hal\n left\u2028."])
    assert metadata(text)["model-index"][0]["name"] == "two --- lines"
    assert metadata(text)["widget"] == [{"text": "Hal left ."}]
    assert "\n# two --- lines\n" in body(text)


def test_plain_labels_are_no_entities_and_their_means_are_macro():
    from huggingface_hub import ModelCard

    text = card(labels=["NOUN", "VERB"])
    found = ModelCard(text).data.eval_results
    assert {result.task_name for result in found} == {"Token Classification"}
    assert [result.metric_args for result in found] == [{"average": "macro"}] * 3 + [None]
    assert "gives each word one of 2 labels (`NOUN`, `VERB`)" in text
    assert "(macro)" in section(text, "Scores")


def test_widget_sentences_are_the_users_or_invented_and_of_no_corpus():
    assert metadata(card(widget_examples=["Hal left ."]))["widget"] == [{"text": "Hal left ."}]
    lines = [line for path in FOLDER.glob("*.conll") for line in path.read_text(encoding="utf-8").splitlines()]
    corpus = " ".join(line.split()[0] for line in lines if line)
    assert len(corpus) > 10_000
    invented = [widget["text"] for widget in metadata(card())["widget"]]
    assert invented
    assert not any(sentence.rstrip(".") in corpus for sentence in invented)


def test_the_summary_names_types_base_and_data():
    summary = body(card(base_revision="main")).strip().splitlines()[2]
    assert summary == (
        "A token classifier that finds entities of 2 types (`LOC`, `PER`), fine-tuned from "
        "[mira/bert](https://huggingface.co/mira/bert) (revision `main`) on "
        f"[mira/places](https://huggingface.co/datasets/mira/places), configuration `small`, commit `{COMMIT}`."
    )


def test_the_table_has_a_row_for_each_type_and_one_for_all():
    scores = section(card(), "Scores")
    assert rows(scores) == [
        ["", "precision", "recall", "F1", "support"],
        ["---", "--:", "--:", "--:", "--:"],
        ["LOC", "100.00", "12.50", "22.22", "1,234"],
        ["**all**", "50.00", "25.00", "33.33", "9"],
    ]
    assert scores.endswith(": accuracy of words 75.00, loss 1.2500, words scored 51,362.")


def test_the_interval_of_a_test_stands_below_its_scores():
    interval = {"interval_low": 0.8125, "interval_high": 0.875, "interval_documents": 231.0}
    scores = section(card(splits=[SplitScores("test", **HUB, scores=SCORES | interval)]), "Scores")
    assert scores.endswith("51,362. 95 % interval of F1: 81.25 to 87.50, bootstrap over 231 documents.")


def test_the_calibration_error_of_a_test_stands_below_its_scores():
    errors = {"calibration_error": 0.0213, "calibration_error_before": 0.0475, "temperature": 1.334}
    scores = section(card(splits=[SplitScores("test", **HUB, scores=SCORES | errors)]), "Scores")
    assert scores.endswith("Expected calibration error of entities 2.13 (4.75 before temperature 1.33), in percent.")
    alone = section(card(splits=[SplitScores("test", **HUB, scores=SCORES | {"calibration_error": 0.0213})]), "Scores")
    assert alone.endswith("Expected calibration error of entities 2.13, in percent.")


def test_the_text_tells_of_tags_that_a_pipeline_does_not_give():
    assert "Viterbi" not in card()
    assert "well-formed in IOB2 (Viterbi), as `predict` and `Tagger` of ner_lightning give" in card(
        decoding="constrained"
    )


@pytest.mark.parametrize(("mode", "words"), [("default", "as conlleval reads them"), ("strict", "are not counted")])
def test_the_text_tells_the_mode_of_the_score(mode, words):
    scores = section(card(score_mode=mode), "Scores")
    assert f"(mode `{mode}`)" in scores
    assert words in scores


@settings(deadline=None, max_examples=30)
@given(st.sets(TEXT, min_size=1, max_size=4))
@example({"``", "|", "\\|", "\\", "<b>", "a\n| b |", "*", "PRP$", ""})
def test_any_label_stays_in_its_cell(types):
    scores = SCORES | {f"f1_{type_}": 0.5 for type_ in types}
    shown = rows(section(card(splits=[SplitScores("test", **HUB, scores=scores)]), "Scores"))
    assert {len(row) for row in shown} == {5}
    assert {row[0] for row in shown[2:-1]} == {" ".join(type_.split()) for type_ in types | {"LOC"}}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["---", "```", "````", "```yaml", "</details>", "a: 1", "", " ", "🙂"])).map("\n".join))
@example("---\na: 1\n---\n```\n---")
def test_no_line_of_the_configuration_ends_a_block(config):
    text = card(config=f"a: 1\n{config}", command=f"python {config} x")
    assert fenced(text, "yaml").rstrip() == f"a: 1\n{config}".rstrip()
    assert fenced(text, "sh") == f"python {config} x\n"
    assert metadata(text) == metadata(card())


def test_a_command_with_bytes_that_are_no_utf8_can_be_written(tmp_path):
    text = card(command="python --x=\udce9")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert fenced(text, "sh") == "python --x=\\udce9\n"


def test_steps_versions_and_length_are_told():
    how = section(card(), "How it was trained")
    assert "1,200 optimizer steps, up to epoch 3, on the first sub-word of each word" in how
    assert "at most 128 sub-words" in how
    assert ["torch", "2.0"] in rows(how)


def test_a_model_before_its_first_step_is_called_untrained():
    assert "This model has not been trained yet." in section(card(global_step=0, epoch=0), "How it was trained")


def test_the_use_of_every_sub_word_follows_what_was_trained():
    assert "so `simple` mislabels them" in section(card(), "Use")
    assert "so `simple` finds nearly the same" in section(card(label_all_tokens=True), "Use")


def test_of_plain_labels_the_merging_of_neighbours_is_told():
    assert "Neighbouring words" not in section(card(), "Use")
    assert "Neighbouring words of one label come as one entry;" in section(card(labels=["NN", "VB"]), "Use")
    assert "behind the first hyphen" in section(card(labels=["NN", "-LRB-"]), "Use")


@settings(deadline=None, max_examples=30)
@given(NAME)
@example('"\\\'"""')
def test_any_sentence_stands_in_the_code_as_it_is(sentence):
    code = ast.parse(fenced(card(widget_examples=[sentence], repo_id="mira/places"), "python"))
    texts = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
    assert {sentence, "mira/places"} <= set(texts)


def test_the_code_runs_in_the_folder_of_the_model(tiny_model, tmp_path, monkeypatch, capsys):
    import torch

    from ner_lightning.pretrained import load_token_classifier, load_tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_token_classifier(str(tiny_model), labels=LABELS)
        torch.nn.init.normal_(model.classifier.weight, std=5)
    model.save_pretrained(tmp_path)
    load_tokenizer(str(tiny_model)).save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    text = card(widget_examples=["Mira left Tarnby."])
    assert "In the folder of this file:" in text
    exec(compile(fenced(text, "python"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert {line.split()[0] for line in lines} <= {"LOC", "PER"}
