"""What people train token classifiers with otherwise: the `Trainer` of transformers, and a loop in plain PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from seqeval.metrics import accuracy_score, classification_report
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
    set_seed,
)

from benchmarks.measuring import Clock, Job, Result

_IGNORE = -100


def train_with_trainer(job: Job, clock: Clock) -> Result:
    """The `Trainer` as the tutorials have it, or at its best for this machine.

    Args:
        job: See `training`; `system` is `tutorial` or `best`.
        clock: Measures it.
    """
    set_seed(42)
    tokenizer, data = _tokenised(job, clock)
    best = {}
    if job["system"] == "best":
        best = {
            "train_sampling_strategy": "group_by_length",  # of evaluation, too
            "optim": "adamw_torch_fused",
            "bf16": job["bf16"],
            "use_cpu": not torch.cuda.is_available(),  # it refuses bf16 on a processor that it was not told to use
            "per_device_eval_batch_size": job["eval_batch_size"],
        }
    intervals: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "no"}
    if job["evaluate"]:
        intervals = {"eval_strategy": "epoch", "save_strategy": "epoch"}
        if job["steps"]:
            steps = {"eval_steps": job["steps"], "save_steps": job["steps"]}
            intervals = {"eval_strategy": "steps", "save_strategy": "steps", **steps}
    arguments = TrainingArguments(
        output_dir=str(Path(job["folder"], "trainer")),
        learning_rate=2e-5,
        weight_decay=0.01,
        num_train_epochs=job["epochs"],
        max_steps=job["steps"] or -1,
        per_device_train_batch_size=job["batch_size"],
        report_to="none",
        **intervals,
        **best,
    )
    f1 = {}

    def score(predictions: Any) -> dict[str, float]:
        with clock.span("metric"):
            f1["f1"] = _f1(np.argmax(predictions.predictions, axis=-1), predictions.label_ids, job["labels"])
        return f1

    steps_done = _Steps(clock)
    trainer = Trainer(
        model=_model(job),
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=DataCollatorForTokenClassification(tokenizer),
        processing_class=tokenizer,
        compute_metrics=score,
        callbacks=[steps_done],
    )
    original = trainer.compute_loss

    def compute_loss(model: Any, inputs: Any, **options: Any) -> Any:
        steps_done.input_ids = inputs["input_ids"]
        return original(model, inputs, **options)

    trainer.compute_loss = clock.timed(compute_loss, "forward")
    trainer.get_batch_samples = clock.timed(trainer.get_batch_samples, "data")
    trainer.accelerator.backward = clock.timed(trainer.accelerator.backward, "backward")
    trainer.accelerator.clip_grad_norm_ = clock.timed(trainer.accelerator.clip_grad_norm_, "clip")
    trainer.evaluate = _spanned(clock, trainer.evaluate, "evaluation")
    trainer._save_checkpoint = _spanned(clock, trainer._save_checkpoint, "checkpoint")
    trainer.train()
    return {"precision": "bf16-mixed" if arguments.bf16 else "32-true", "f1": f1.get("f1")}


def train_plainly(job: Job, clock: Clock) -> Result:
    """A loop as a person writes it: random order, padding to the longest, fused AdamW, clipping, a falling rate.

    Args:
        job: See `training`.
        clock: Measures it.
    """
    torch.manual_seed(42)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, data = _tokenised(job, clock)
    collator = DataCollatorForTokenClassification(tokenizer)
    batches = DataLoader(data["train"], batch_size=job["batch_size"], shuffle=True, collate_fn=collator)
    validation = DataLoader(data["validation"], batch_size=job["batch_size"], collate_fn=collator)
    model = _model(job).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01, fused=True)
    steps = job["steps"] or len(batches) * job["epochs"]
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    done, f1 = 0, None
    fetch = clock.timed(lambda iterator: {k: v.to(device) for k, v in next(iterator).items()}, "data")
    forward = clock.timed(lambda batch: model(**batch).loss, "forward")
    backward = clock.timed(torch.Tensor.backward, "backward")
    clip = clock.timed(torch.nn.utils.clip_grad_norm_, "clip")
    step, zero_grad = clock.timed(optimizer.step, "optimizer"), clock.timed(optimizer.zero_grad, "optimizer")
    for _ in range(job["epochs"]):
        model.train()
        clock.begin_epoch()
        iterator = iter(batches)
        for _ in range(min(len(batches), steps - done)):
            batch = fetch(iterator)
            loss = forward(batch)
            backward(loss)
            clip(model.parameters(), 1.0)
            step()
            schedule.step()
            zero_grad()
            clock.end_step(batch["input_ids"], tokenizer.pad_token_id)
            done += 1
        if job["evaluate"]:
            with clock.span("evaluation"):
                f1 = _evaluate(model, validation, device, job["labels"], clock)
            with clock.span("checkpoint"):
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state | {"schedule": schedule.state_dict()}, Path(job["folder"], "plain.pt"))
    return {"precision": "32-true", "f1": f1}


class _Steps(TrainerCallback):  # type: ignore[misc] # no types there
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.input_ids: Any = None  # of the batch

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["optimizer"].step = self._clock.timed(kwargs["optimizer"].step, "optimizer")
        kwargs["model"].zero_grad = self._clock.timed(kwargs["model"].zero_grad, "optimizer")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._clock.begin_epoch()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._clock.end_step(self.input_ids, kwargs["processing_class"].pad_token_id)


def _tokenised(job: Job, clock: Clock) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(job["encoder"])
    ids = {label: number for number, label in enumerate(job["labels"])}
    # of a word's label for its other sub-words
    inside = {label: ids.get(f"I-{label[2:]}", ids[label]) for label in ids}
    with clock.span("read"):
        data = load_dataset("json", data_files=job["json"])

    def tokenize_and_align_labels(examples: Any) -> Any:
        encoded = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
        encoded["labels"] = []
        for number, tags in enumerate(examples["ner_tags"]):
            previous, labels = None, []
            for word in encoded.word_ids(number):
                if word is None:
                    labels.append(_IGNORE)
                else:
                    labels.append(ids[tags[word]] if word != previous else inside[tags[word]])
                previous = word
            encoded["labels"].append(labels)
        return encoded

    with clock.span("tokenise"):
        data = data.map(tokenize_and_align_labels, batched=True, remove_columns=data["train"].column_names)
    return tokenizer, data


def _model(job: Job) -> Any:
    names = dict(enumerate(job["labels"]))
    return AutoModelForTokenClassification.from_pretrained(
        job["encoder"], id2label=names, label2id={label: number for number, label in names.items()}
    )


def _spanned(clock: Clock, function: Any, name: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with clock.span(name):
            return function(*args, **kwargs)

    return call


@torch.no_grad()
def _evaluate(model: Any, batches: Any, device: Any, labels: list[str], clock: Clock) -> float:
    model.eval()
    predicted, gold = [], []
    for batch in batches:
        logits = model(**{name: values.to(device) for name, values in batch.items()}).logits
        predicted += logits.argmax(-1).tolist()
        gold += batch["labels"].tolist()
    with clock.span("metric"):
        return _f1(predicted, gold, labels)


def _f1(predicted: Any, gold: Any, labels: list[str]) -> float:
    """F1 of entities as the tutorials compute it, over all sub-words that have a label."""
    pairs = [
        [(labels[one], labels[other]) for one, other in zip(*each, strict=True) if other != _IGNORE]
        for each in zip(predicted, gold, strict=True)
    ]
    names, truth = [[one for one, _ in each] for each in pairs], [[other for _, other in each] for each in pairs]
    accuracy_score(truth, names)  # they report it, too
    return float(classification_report(truth, names, output_dict=True, zero_division=0)["micro avg"]["f1-score"])
