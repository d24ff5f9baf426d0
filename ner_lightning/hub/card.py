"""The model card: the facts of a run, and `card.md`, the template that makes them the README.md of a Hub repository.

Where a fact is not known (a licence, a language, a score) the card says nothing rather than a guess.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from ner_lightning.checkpoints import decoding_of
from ner_lightning.hub.outbox import About
from ner_lightning.lora import lora_rank
from ner_lightning.pretrained import marks_subwords, needs_spaces
from ner_lightning.quickstart import packaged
from ner_lightning.scores import SplitScores
from ner_lightning.tags import is_entity_scheme

if TYPE_CHECKING:
    from huggingface_hub import EvalResult
    from transformers import PreTrainedTokenizerFast

    from ner_lightning.decoding import Decoding
    from ner_lightning.encoding import Context

_PACKAGES = ("ner-lightning", "lightning", "torch", "transformers", "datasets")  # whose versions the card tells
_METRICS = ("precision", "recall", "f1", "accuracy")
# invented: whether sentences of the corpus may be published is not known here
EXAMPLES = (
    "My name is Tarina Drolsen and I work at Bralex Motors in Velkonia.",
    "Oskar Velm of Quillmar Bank ran the Hadelburg Marathon in Tarnby.",
)
# what datasets calls its loaders of local files, by suffix; any other file is CoNLL columns
_LOADERS = {"json": "json", "jsonl": "json", "parquet": "parquet"}
# in a configuration: the key of a logger, the user in an address, a token of the Hub (which the command line refuses)
_SECRET = re.compile(r"((?:key|token|password)(?:=|: ))(?!null\b)\S+|(?<=://)[^/\s@]+(?=@)|\bhf_[A-Za-z0-9]{20,}\b")


@dataclass(frozen=True, kw_only=True)
class CardFacts(About):
    """All that a card says; the template finds each under its name."""

    title: str
    labels: Sequence[str]  # in the order of their ids, IOB2 or plain
    splits: Sequence[SplitScores]  # scored or not, each once
    base_model: str | None  # on the Hub; None for a local folder and for random weights
    base_revision: str | None
    global_step: int
    epoch: int  # of the last step, from 1; 0 before training
    lora_rank: int | None  # of adapters, merged into the weights
    label_all_tokens: bool
    max_seq_length: int | None
    context: Context
    separator: str | None  # between sentences of a window
    score_mode: Literal["default", "strict"]
    decoding: Decoding
    # continuation sub-words (`##`): a pipeline finds the words of any text; else the example has spaces between words
    marks_subwords: bool
    needs_spaces: bool  # the space before a word may be a sub-word of its own, which is not scored
    command: str | None
    config: str | None  # as YAML
    versions: dict[str, str]
    onnx: dict[str, Any] | None = None  # as `compact` gives it


def card_facts(
    checkpoint: dict[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    splits: Sequence[SplitScores],
    about: About,
    onnx: dict[str, Any] | None = None,
) -> CardFacts:
    """Gather the facts of the model in a checkpoint, in which a run of the command line left its `config`."""
    options, data = checkpoint["hyper_parameters"], checkpoint.get("datamodule_hyper_parameters", {})
    name = options["model_name_or_path"]
    config = _SECRET.sub(r"\1***", checkpoint.get("config", ""))
    return CardFacts(
        **vars(about),
        title=about.repo_id or f"{Path(name).name}-token-classifier",
        labels=options["labels"],
        splits=splits,
        base_model=name if options.get("pretrained", True) and not Path(packaged(name)).exists() else None,
        base_revision=options.get("model_revision"),
        global_step=checkpoint["global_step"],
        epoch=_epoch(checkpoint),
        lora_rank=None if (lora := options.get("lora")) is None else lora_rank(lora),
        label_all_tokens=data.get("label_all_tokens", False),
        max_seq_length=data.get("max_seq_length"),
        context=data.get("context", "sentence"),
        separator=tokenizer.sep_token,
        score_mode=options["score_mode"],
        decoding=decoding_of(options),
        marks_subwords=marks_subwords(tokenizer),
        needs_spaces=needs_spaces(tokenizer),
        command=config.partition("\n")[0].removeprefix("# ") if config.startswith("# ") else None,
        config=config or None,
        versions={"python": platform.python_version()} | {package: version(package) for package in _PACKAGES},
        onnx=onnx,
    )


def model_card(facts: CardFacts) -> str:
    """Write the README.md of a model."""
    from jinja2 import Environment, StrictUndefined

    entities = is_entity_scheme(facts.labels)
    examples = [_line(example) for example in facts.widget_examples or EXAMPLES]
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "code": _code,
        "fenced": _fenced,
        "file_name": _file_name,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
        "number": _number,
        "percent": lambda share: _number(None if share is None else 100 * share, ".2f"),
        "quote": quote,
        "spaced": lambda text: " ".join(re.sub(r"([^\w\s])", r" \1 ", text).split()),
        "text": _text,
    }
    environment.tests["contains"] = lambda text, part: part in text
    card = environment.from_string(Path(__file__).with_name("card.md").read_text(encoding="utf-8")).render(
        vars(facts),
        metadata=_metadata(facts, examples),
        examples=examples,
        entities=entities,
        types=sorted({label[2:] for label in facts.labels if label != "O"}) if entities else [],
        scored=[split for split in facts.splits if split.scores],
        # files of validation and test say nothing about the training data, a Hub dataset does
        trained_on=next((split for split in facts.splits if split.name == "train" or split.dataset), None),
    )
    # a command line with bytes that are not UTF-8 holds surrogates, which no file takes
    return card.encode("utf-8", "backslashreplace").decode("utf-8")


def _epoch(checkpoint: dict[str, Any]) -> int:
    if not checkpoint["global_step"]:
        return 0
    # not `epoch`, the number of those that were ended: a run that stops inside one counts it, a save in it does not
    loop = checkpoint["loops"]["fit_loop"]
    started: int = loop["epoch_progress"]["current"]["started"]
    return started - (not loop["epoch_loop.batch_progress"]["current"]["processed"])


def _metadata(facts: CardFacts, examples: list[str]) -> str:
    from huggingface_hub import ModelCardData

    results = [result for split in facts.splits for result in _results(split, facts)]
    language = facts.language
    return str(
        ModelCardData(
            base_model=facts.base_model,
            datasets=list(dict.fromkeys(split.dataset for split in facts.splits if split.dataset)) or None,
            eval_results=results or None,
            language=([language] if isinstance(language, str) else list(language)) if language else None,
            library_name="onnx" if facts.onnx else "transformers",
            license=facts.license,
            metrics=[name for name in _METRICS if any(result.metric_type == name for result in results)] or None,
            # without results the client would write it under its own name
            model_name=_line(facts.title) if results else None,
            pipeline_tag="token-classification",
            tags=["ner-lightning"],
            widget=[{"text": example} for example in examples],
        ).to_yaml()
    )


def _results(split: SplitScores, facts: CardFacts) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    entities = is_entity_scheme(facts.labels)
    args = {"mode": facts.score_mode} if entities else {"average": "macro"}
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


def _file_name(split: SplitScores) -> str:
    return _line(re.split(r"[/\\]", split.file or "")[-1])


def _number(value: float | None, form: str) -> str:
    return "not measured" if value is None or not isfinite(value) else format(value, form)


def _line(text: str) -> str:
    return " ".join(text.split())


def _text(text: str) -> str:
    """As it is, in a paragraph, a heading or a cell."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", _line(text))


def _code(text: str) -> str:
    ticks = _ticks(text, 1)
    return f"{ticks} {_line(text)} {ticks}" if "`" in text else f"`{_line(text)}`"


def _fenced(text: str, language: str) -> str:
    ticks = _ticks(text, 3)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _ticks(text: str, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))
