"""The model card: facts of a run -> the README.md of a Hub repository, metadata and text.

Text in, text out: it knows nothing of the network, of files, tensors or callbacks, and where a fact is not known
(a licence, a language, a score) it says nothing rather than a guess.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ner_lightning.tags import is_entity_scheme

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_METRICS = ("precision", "recall", "f1", "accuracy")
# invented: whether sentences of the corpus may be published is not known here
_EXAMPLES = (
    "My name is Tarina Drolsen and I work at Bralex Motors in Velkonia.",
    "Oskar Velm of Quillmar Bank ran the Hadelburg Marathon in Tarnby.",
)
# what datasets calls its loaders of local files, by suffix; any other file is CoNLL columns
_LOADERS = {"json": "json", "jsonl": "json", "parquet": "parquet"}


@dataclass(frozen=True)
class CardSplit:
    """One split of the corpus: where it comes from, either the Hub or a file, and how the model scores on it.

    Args:
        name: `train`, `validation` or `test`.
        dataset: Hub id of the dataset.
        config: Configuration of the Hub dataset.
        commit: Commit of the Hub dataset that was loaded.
        file: The file where it is one; of a path the folder is not told.
        scores: What `EntityScore` gives (`f1`, `f1_PER`, `words`), and `loss`; empty where nothing was scored.
    """

    name: str
    dataset: str | None = None
    config: str | None = None
    commit: str | None = None
    file: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


def model_card(
    title: str,
    *,
    labels: Sequence[str],
    splits: Sequence[CardSplit],
    base_model: str | None,
    base_revision: str | None,
    global_step: int,
    epoch: int,
    label_all_tokens: bool,
    max_seq_length: int | None,
    score_mode: Literal["default", "strict"],
    command: str | None,
    config: str | None,
    repo_id: str | None,
    language: Sequence[str] | str | None,
    license: str | None,
    widget_examples: Sequence[str] | None,
    versions: dict[str, str],
    marks_subwords: bool = True,
    needs_spaces: bool = False,
) -> str:
    """Write the README.md of a model.

    Args:
        title: Name of the model.
        labels: Label names in the order of their ids, IOB2 or plain.
        splits: The splits of the corpus, scored or not, each once.
        base_model: Hub id of the model that was fine-tuned; None for a local folder and for random weights.
        base_revision: Branch, tag or commit of `base_model`.
        global_step: Optimizer steps so far.
        epoch: The epoch of the last step, from 1.
        label_all_tokens: Whether every sub-word of a word was trained, and not only the first.
        max_seq_length: Sub-words in a window, special tokens included.
        score_mode: Of `EntityScore`.
        command: The command line of the run.
        config: The configuration of the run, as YAML; shown as it is.
        repo_id: The model's own id on the Hub.
        language: Code of the language, such as `en`, or codes.
        license: Identifier of the licence, such as `apache-2.0`.
        widget_examples: Sentences to try the model on; by default invented ones, never some of the corpus.
        versions: Libraries and their versions.
        marks_subwords: Whether the tokenizer marks the further sub-words of a word (`##`), so that a pipeline knows
            the words of any text; of another one it is given text in which spaces part them.
        needs_spaces: Whether the space before a word may be a sub-word of its own, which is not scored.
    """
    from huggingface_hub import ModelCardData

    assert all((split.dataset is None) != (split.file is None) for split in splits), "either the Hub or a file"
    assert len({split.name for split in splits}) == len(splits), "the client merges the results of equal names"
    title = _line(title)
    examples = [_line(example) for example in widget_examples or _EXAMPLES]
    scored = [split for split in splits if split.scores]
    results = [result for split in scored for result in _results(split, labels, score_mode)]
    metrics = [name for name in _METRICS if any(result.metric_type == name for result in results)]
    metadata = ModelCardData(
        base_model=base_model,
        datasets=list(dict.fromkeys(split.dataset for split in splits if split.dataset)) or None,
        eval_results=results or None,
        language=([language] if isinstance(language, str) else list(language)) if language else None,
        library_name="transformers",
        license=license,
        metrics=metrics or None,
        model_name=title if results else None,  # without results the client would write it under its own name
        pipeline_tag="token-classification",
        tags=["ner-lightning"],
        widget=[{"text": example} for example in examples],
    )
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {_text(title)}",
        _summary(labels, splits, base_model, base_revision),
        "## Scores",
        _how_scored(labels, score_mode) if scored else "This model has not been scored.",
        *(_score_table(split) for split in scored),
        "## Use",
        _use(labels, repo_id, examples[0], label_all_tokens)
        if marks_subwords
        else _use_words(repo_id, examples[0], label_all_tokens, needs_spaces),
        "## How it was trained",
        _training(global_step, epoch, label_all_tokens, max_seq_length),
    ]
    if command:
        parts.append(_fenced(command, "sh"))
    if config:
        parts.append(f"<details>\n<summary>Configuration</summary>\n\n{_fenced(config, 'yaml')}\n\n</details>")
    parts.append(_table(["library", "version"], [[_text(name), _text(version)] for name, version in versions.items()]))
    # of bytes that are no UTF-8 a command line holds surrogates, which no file takes
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace").decode("utf-8")


def _results(split: CardSplit, labels: Sequence[str], score_mode: str) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    entities = is_entity_scheme(labels)
    args = {"mode": score_mode} if entities else {"average": "macro"}
    file = _file_name(split)
    return [
        EvalResult(
            task_type="token-classification",
            task_name="Named Entity Recognition" if entities else "Token Classification",
            dataset_type=split.dataset or _LOADERS.get(file.rpartition(".")[2].lower(), "conll"),
            dataset_name=split.dataset or file,
            dataset_config=split.config,
            dataset_split=split.name,
            dataset_revision=split.commit,
            metric_type=metric,
            metric_name=metric.capitalize(),
            metric_value=float(split.scores[metric]),  # YAML would have a number of numpy as !!binary
            metric_args=None if metric == "accuracy" else args,
        )
        for metric in _METRICS
        if isfinite(split.scores.get(metric, nan))
    ]


def _summary(
    labels: Sequence[str], splits: Sequence[CardSplit], base_model: str | None, base_revision: str | None
) -> str:
    if is_entity_scheme(labels):
        names = sorted({label[2:] for label in labels if label != "O"})
        does = f"finds entities of {len(names)} type{'s' * (len(names) > 1)}"
    else:
        names = list(labels)
        does = f"gives each word one of {len(names)} labels"
    text = f"A token classifier that {does} ({', '.join(map(_code, names))})"
    if base_model:
        text += f", fine-tuned from [{_text(base_model)}](https://huggingface.co/{quote(base_model)})"
        text += f" (revision {_code(base_revision)})" if base_revision else ""
    # files of validation and test say nothing about the training data, a Hub dataset does
    data = next((split for split in splits if split.name == "train" or split.dataset), None)
    if data:
        text += f"{'' if base_model else ', trained'} on {_source(data)}"
        text += f", configuration {_code(data.config)}" if data.config else ""
        text += f", commit {_code(data.commit)}" if data.commit else ""
    return f"{text}."


def _how_scored(labels: Sequence[str], score_mode: str) -> str:
    if is_entity_scheme(labels):
        ill_formed = "count as conlleval reads them" if score_mode == "default" else "are not counted"
        how = (
            f"Entities as seqeval counts them over whole sentences (mode `{score_mode}`): right are those whose type "
            f"and both ends are right, and ill-formed tags {ill_formed}."
        )
    else:
        how = "By label; the row of all is the mean over the labels in use (macro), and its support all words."
    return f"{how} Every word is scored once, by its first sub-word. Precision, recall, F1 and accuracy are in percent."


def _score_table(split: CardSplit) -> str:
    scores = split.scores
    types = sorted(name.removeprefix("f1_") for name in scores if name.startswith("f1_"))
    rows = []
    for title, suffix in [*((_text(name), f"_{name}") for name in types), ("**all**", "")]:
        percents = [_number(100 * scores.get(f"{name}{suffix}", nan), ".2f") for name in ("precision", "recall", "f1")]
        rows.append([title, *percents, _number(scores.get(f"support{suffix}", nan), ",.0f")])
    return (
        f"### {split.name}\n\n"
        + _table(["", "precision", "recall", "F1", "support"], rows)
        + f"\n\nOn {_source(split)}: accuracy of words {_number(100 * scores.get('accuracy', nan), '.2f')}, "
        + f"loss {_number(scores.get('loss', nan), '.4f')}, words scored {_number(scores.get('words', nan), ',.0f')}."
    )


def _use(labels: Sequence[str], repo_id: str | None, example: str, label_all_tokens: bool) -> str:
    code = f"""\
from transformers import pipeline

tagger = pipeline("token-classification", model={json.dumps(repo_id or ".")}, aggregation_strategy="first")
for found in tagger({json.dumps(example, ensure_ascii=False)}):
    print(found["entity_group"], found["word"], found["start"], found["end"])"""
    text = "" if repo_id else "In the folder of this file:\n\n"
    others = (
        "were trained too, so `simple` finds nearly the same"
        if label_all_tokens
        else "were not trained, so `simple` mislabels them"
    )
    text += (
        f"{_fenced(code, 'python')}\n\n`first` gives a word the label of its first sub-word, which is what is scored; "
        f"the others {others}."
    )
    if not is_entity_scheme(labels):
        text += " Neighbouring words of one label come as one entry"
        text += ", and of a label its part behind the first hyphen" if any("-" in label for label in labels) else ""
        text += '; `aggregation_strategy="none"` shows every sub-word with its whole label.'
    return text


def _use_words(repo_id: str | None, example: str, label_all_tokens: bool, needs_spaces: bool) -> str:
    """For a tokenizer that does not say where words begin (RoBERTa's, XLM-R's, Llama's)."""
    words = re.sub(r"([^\w\s])", r" \1 ", example).split()
    read = ['labels.setdefault(text.count(" ", 0, token["end"]), token["entity"])']
    if needs_spaces:
        read = ['if text[token["start"] : token["end"]].strip():', f"    {read[0]}"]
    lines = "\n    ".join(read)
    code = f"""\
from transformers import pipeline

tagger = pipeline("token-classification", model={json.dumps(repo_id or ".")}, ignore_labels=[])
text = {json.dumps(" ".join(words), ensure_ascii=False)}  # a space between words
labels = {{}}  # of each word that of its first sub-word
for token in tagger(text):
    {lines}
for number, word in enumerate(text.split(" ")):
    print(word, labels.get(number))"""
    others = (
        '`aggregation_strategy="simple"` reads all of them, which were trained too, and finds nearly the same'
        if label_all_tokens
        else 'the others were not trained, so `aggregation_strategy="simple"` mislabels them'
    )
    return (
        ("" if repo_id else "In the folder of this file:\n\n")
        + f"{_fenced(code, 'python')}\n\nThis gives a word the label of its first sub-word, which is what is scored; "
        f"{others}. The tokenizer does not mark where words begin: in text without spaces around punctuation `first` "
        "takes a name and the full stop behind it as one word. `python -m ner_lightning predict` finds the words of "
        "any text."
    )


def _training(global_step: int, epoch: int, label_all_tokens: bool, max_seq_length: int | None) -> str:
    if not global_step:
        return "This model has not been trained yet."
    pieces = "every sub-word" if label_all_tokens else "the first sub-word"
    windows = f", in windows of at most {max_seq_length:,} sub-words" if max_seq_length else ""
    return f"{global_step:,} optimizer steps, up to epoch {epoch}, on {pieces} of each word{windows}."


def _source(split: CardSplit) -> str:
    if split.dataset is None:
        return _code(_file_name(split))
    return f"[{_text(split.dataset)}](https://huggingface.co/datasets/{quote(split.dataset)})"


def _file_name(split: CardSplit) -> str:
    return _line(re.split(r"[/\\]", split.file or "")[-1])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _number(value: float, form: str) -> str:
    return format(float(value), form) if isfinite(value) else "not measured"


def _line(text: str) -> str:
    return " ".join(text.split())


def _text(text: str) -> str:
    # as it stands, in a paragraph, a heading or a cell
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", _line(text))


def _code(text: str) -> str:
    ticks = _ticks(text, 1)
    return f"{ticks} {_line(text)} {ticks}" if "`" in text else f"`{_line(text)}`"


def _fenced(text: str, language: str) -> str:
    ticks = _ticks(text, 3)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _ticks(text: str, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))
