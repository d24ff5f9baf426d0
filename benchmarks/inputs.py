"""The corpus and the encoder that all benchmarks work on, and the options that name them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.measuring import README, Job, Result, fresh_process, serve

_PACKAGED = Path(__file__).parents[1] / "ner_lightning" / "quickstart"
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
# of a BERT with random weights; sub-words that the corpus does not have are rows of its table all the same
_SIZES = {
    "mini": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
    "bert-base": _BASE | {"vocab_size": 30_522},
    "xlm-r-base": _BASE | {"vocab_size": 250_002},
}
_NO_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


def options_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have.

    Args:
        name: Of the benchmark.
        description: What it says of itself.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--train_file", type=Path, default=_PACKAGED / "train.conll")
    add("--validation_file", type=Path, default=_PACKAGED / "validation.conll")
    add("--model_name_or_path", help="A folder; by default a BERT with random weights.")
    add("--size", choices=_SIZES, default="mini", help="Of that BERT.")
    add("--runs", type=int, help="Of which medians are taken; by default 3, or 1 with --quick.")
    add("--quick", action="store_true", help="Little work, to see that it runs; not written to the README.")
    add("--readme", type=Path, help="The file with the section to write; by default that of this folder.")
    return parser


def prepared(options: Any, folder: Path, *, sizes: dict[str, int] | None = None) -> Job:
    """What every job needs, made in a process of its own; fills in what `--quick` decides.

    Args:
        options: As `options_of` parses them.
        folder: For what is made.
        sizes: Of the encoder where none is given, as `BertConfig` names them.

    Returns:
        `files` and, for peers, `json`, by split; `labels`; `sentences` of the training split; `encoder`, a folder;
        `classifier`, a folder with a head of random weights; `bf16`, whether the hardware has it; `device`.
    """
    options.runs = options.runs or (1 if options.quick else 3)
    options.readme = options.readme or (None if options.quick else README)
    job: Job = {
        "folder": str(folder),
        "files": {split: str(getattr(options, f"{split}_file").absolute()) for split in ("train", "validation")},
        # a folder, whose place is meant from here
        "encoder": options.model_name_or_path and str(Path(options.model_name_or_path).absolute()),
        "no_dropout": getattr(options, "no_dropout", False),
        "sizes": sizes or _SIZES[options.size],
    }
    return fresh_process("benchmarks.inputs", job, folder=folder) | {"folder": str(folder), "options": []}


def fit_arguments(job: Job) -> list[str]:
    """The command line of a training with the classic recipe.

    Args:
        job: With `files`, `encoder`, `batch_size` and `folder`, where `runs` will be.
    """
    return [
        "fit",
        "--config=conll",
        "--data.dataset_name=null",
        *(f"--data.{split}_file={file}" for split, file in job["files"].items()),
        f"--model.model_name_or_path={job['encoder']}",
        f"--data.batch_size={job['batch_size']}",
        f"--trainer.default_root_dir={Path(job['folder'], 'runs')}",
    ]


def work(job: Job) -> Result:
    """Make the encoder, and the corpus in the form that peers read.

    Args:
        job: See `prepared`.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    from ner_lightning.data import TokenClassificationDataModule

    files, folder = job["files"], Path(job["folder"])
    data = TokenClassificationDataModule(**{f"{split}_file": file for split, file in files.items()})
    labels = data.labels
    written = {}
    for split, rows in data.corpus.splits.items():
        written[split] = str(folder / f"{split}.json")
        with open(written[split], "w", encoding="utf-8") as file:
            for row in rows:
                tags = [labels[tag] for tag in row["tags"]]
                file.write(json.dumps({"tokens": row["tokens"], "ner_tags": tags}) + "\n")
    encoder, tokenizer = _encoder(job, folder / "encoder")
    names = dict(enumerate(labels))
    classifier = AutoModelForTokenClassification.from_pretrained(
        encoder, id2label=names, label2id={label: number for number, label in names.items()}
    )
    classifier.save_pretrained(folder / "classifier")
    tokenizer.save_pretrained(folder / "classifier")
    has = torch.cpu.get_capabilities()
    return {
        "files": files,
        "json": written,
        "labels": labels,
        "sentences": len(data.corpus.splits["train"]),
        "encoder": encoder,
        "classifier": str(folder / "classifier"),
        "bf16": bool(torch.cuda.is_available() or has.get("avx512_bf16") or has.get("amx_bf16")),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }


def _encoder(job: Job, folder: Path) -> tuple[str, Any]:
    """A folder with configuration, tokenizer and weights, and the tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig

    given = job["encoder"]
    tokenizer = AutoTokenizer.from_pretrained(given or _PACKAGED)
    if given is not None and not job["no_dropout"]:
        return str(Path(given).absolute()), tokenizer
    sizes = {"vocab_size": len(tokenizer)} | job["sizes"]
    config = BertConfig(**sizes) if given is None else AutoConfig.from_pretrained(given)
    if job["no_dropout"]:
        config.update({name: 0.0 for name in _NO_DROPOUT if name in config.to_dict()})
    torch.manual_seed(0)
    model = AutoModel.from_config(config) if given is None else AutoModel.from_pretrained(given, config=config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder), tokenizer


if __name__ == "__main__":
    serve(work)
