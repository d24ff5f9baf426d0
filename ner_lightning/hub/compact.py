"""The model of an exported folder as ONNX, whole or in 8 bits, and what that costs and gives on validation.

Products of 8-bit integers are several times as fast as those in float32 where a processor has instructions for them
(AVX-512 VNNI and its like). Some layers lose more by it than others: validation tells which, and they stay in float32.
"""

from __future__ import annotations

import ast
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ner_lightning.checkpoints import decoding_of
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.decoding import Grammar, argmax
from ner_lightning.errors import InputError, first_line
from ner_lightning.files import naming
from ner_lightning.hardware import inference_tokens
from ner_lightning.metrics import EntityScore
from ner_lightning.onnx_model import FILE, NEEDED, OnnxClassifier
from ner_lightning.options import recorded_data
from ner_lightning.pretrained import load_token_classifier
from ner_lightning.products import onednn_products

if TYPE_CHECKING:
    import onnx
    from transformers import PreTrainedModel

# what stays in float32, tried in this order: each time these parts more
_PARTS = ("nothing", "the head", "the first layer", "the last layer", "the embeddings", "attention")
_ENOUGH = 0.2  # of the loss that is allowed: with so little, no further part is tried
_TIMED, _ROUNDS = 16, 3  # batches whose time is taken, and how often


def compact(
    folder: Path,
    *,
    checkpoint: dict[str, Any],
    int8: bool,
    max_f1_loss: float,
    validation_file: list[str] | str | None,
    trust_remote_code: bool,
) -> dict[str, Any]:
    """Put `model.onnx` in the place of the weights of an exported folder.

    Args:
        folder: As `write_model` leaves it.
        checkpoint: What it was made of.
        int8: With products and embeddings in 8 bits, as far as validation allows.
        max_f1_loss: F1 that it may lose on validation, in percentage points.
        validation_file: The validation data; by default those of training.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Returns:
        `weights`, `in_float32`, `threads`, and `f1`, `words_per_second` and `megabytes`, `before` and `after`.

    Raises:
        InputError: It cannot be written as ONNX, validation data is missing, or the loss is larger.
    """
    options = checkpoint["hyper_parameters"]
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"--onnx needs onnx, onnxruntime and onnxscript: {NEEDED}") from error
    trial = _Trial(checkpoint, folder, validation_file, trust_remote_code)
    model = load_token_classifier(str(folder), labels=options["labels"], trust_remote_code=trust_remote_code).eval()
    before = trial.f1(model)
    path, whole = folder / FILE, folder / "whole.onnx"
    with naming(path):
        _write_onnx(model, whole if int8 else path)
        kept, after = 0, -1.0
        for number in range(len(_PARTS) if int8 else 1):
            smaller = folder / f"{number}.onnx"
            if int8:
                _quantise(whole, smaller, model=model, parts=_PARTS[1 : number + 1])
            f1 = trial.f1(OnnxClassifier(smaller if int8 else path))
            if f1 > after:
                kept, after = number, f1
            if before - after <= _ENOUGH * max_f1_loss:
                break
        if int8:
            (folder / f"{kept}.onnx").rename(path)
    if before - after > max_f1_loss:
        parts = f" with {_listed(kept)} in float32" if int8 else ""
        raise InputError(
            f"F1 on validation falls from {before:.2f} to {after:.2f}{parts}, by more than "
            f"--max_f1_loss={max_f1_loss}: nothing is written; leave out --{'int8' if int8 else 'onnx'}, or allow a "
            "larger loss"
        )
    weights = [file for file in folder.iterdir() if file.suffix == ".safetensors"]
    speeds = trial.words_per_second([model, OnnxClassifier(path)])
    sizes = [sum(file.stat().st_size for file in files) / 1e6 for files in (weights, folder.glob(f"{FILE}*"))]
    for file in [
        *weights,
        *folder.glob("*.safetensors.index.json"),
        *folder.glob("whole.onnx*"),
        *folder.glob("?.onnx"),
    ]:
        file.unlink()
    numbers = [
        {"f1": round(f1, 2), "words_per_second": round(speed), "megabytes": round(size, 1)}
        for f1, speed, size in zip((before, after), speeds, sizes, strict=True)
    ]
    threads = torch.get_num_threads()
    told = [" -> ".join(f"{row[name]:,}" for row in numbers) for name in ("f1", "words_per_second", "megabytes")]
    print(
        f"validation F1 {told[0]}, words/s {told[1]} with {threads} thread{'s' if threads > 1 else ''}, MB {told[2]}"
        + (f", in float32: {_listed(kept)}" if int8 else ""),
        file=sys.stderr,
    )
    return {
        "weights": "int8" if int8 else "float32",
        "in_float32": list(_PARTS[1 : kept + 1]),
        "threads": threads,
        "before": numbers[0],
        "after": numbers[1],
    }


class _Trial:
    """The validation split, on which a classifier is scored as in training, and timed."""

    def __init__(
        self,
        checkpoint: dict[str, Any],
        folder: Path,
        validation_file: list[str] | str | None,
        trust_remote_code: bool,
    ) -> None:
        options = checkpoint["hyper_parameters"]
        data = recorded_data(checkpoint)
        if validation_file:  # alone: the others need not be here
            data |= dict.fromkeys(("train_file", "test_file", "annotated_types", "validation_split"))
            data["validation_file"] = validation_file
        data |= {"eval_batch_size": None, "eval_max_tokens": inference_tokens(torch.device("cpu"))}
        data |= {"num_workers": 0, "pin_memory": False}
        # the tokenizer of the folder keeps case where that of the encoder does not
        data |= {"model_name_or_path": str(folder), "model_revision": None, "keep_case": False}
        data["trust_remote_code"] = trust_remote_code
        self.labels, self._mode = options["labels"], options["score_mode"]
        try:
            self._batches = list(TokenClassificationDataModule(**data).loader("validation"))
        except InputError as error:
            raise InputError(
                f"--onnx is scored on the validation split of the run, which cannot be read ({error}): give "
                "--validation_file"
            ) from error
        constrained = decoding_of(options) == "constrained"
        self._grammar = Grammar(self.labels) if constrained else None

    @torch.inference_mode()
    def f1(self, classifier: Callable[..., Any]) -> float:
        """In percent."""
        grammar = self._grammar
        score = EntityScore(self.labels, mode=self._mode, mend=grammar.mend if grammar else None)
        decode = grammar.decode if grammar else argmax
        for batch in self._batches:
            logits = _logits(classifier, batch)
            scored = batch["word_index"] >= 0
            names = ("word_index", "labels", "sentence_index", "document_index")
            words, targets, sentences, documents = (batch[name][scored] for name in names)
            labels = decode(batch, logits)[scored]
            score.update(words, labels, targets, sentences, batch["num_words"], document_index=documents)
        return 100 * score.compute()["f1"]

    @torch.inference_mode()
    def words_per_second(self, classifiers: list[Callable[..., Any]]) -> list[float]:
        """Of each, on the same batches in turn, so that other work on the machine slows all of them."""
        batches = self._batches[:: -(-len(self._batches) // _TIMED)]
        times: list[list[float]] = [[0.0] * _ROUNDS for _ in classifiers]
        for number in range(_ROUNDS):
            for batch in batches:
                for classifier, rounds in zip(classifiers, times, strict=True):
                    started = time.perf_counter()
                    _logits(classifier, batch)
                    rounds[number] += time.perf_counter() - started
        words = sum(int((batch["word_index"] >= 0).sum()) for batch in batches)
        return [words / statistics.median(rounds) for rounds in times]


def _logits(classifier: Callable[..., Any], batch: dict[str, Any]) -> Tensor:
    with onednn_products():
        logits: Tensor = classifier(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits


class _Logits(nn.Module):
    """A classifier whose output is one tensor."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _write_onnx(model: PreTrainedModel, path: Path) -> None:
    former = model.config._attn_implementation
    model.set_attn_implementation("eager")  # a smaller graph: sdpa minds rows of padding alone, which do not come
    input_ids = torch.ones(2, 9, dtype=torch.int64)
    attention_mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Logits(model).eval(),
                (input_ids, attention_mask),
                dynamo=True,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes=(free, free),
                verbose=False,
            )
        assert program is not None, "with dynamo it is given"
        program.save(path)
    except OSError:
        raise
    except Exception as error:  # whatever an architecture makes of tracing
        raise InputError(
            f"{type(model).__name__} cannot be written as ONNX ({first_line(error)}): leave out --onnx"
        ) from error
    finally:
        model.set_attn_implementation(former)


def _quantise(whole: Path, path: Path, *, model: PreTrainedModel, parts: tuple[str, ...]) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(whole)
    # that shapes were inferred, without which a warning would come through the root logger
    onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_dynamic(
        graph,
        path,
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in graph.graph.node if _part_of(node, model) & {*parts}],
    )


def _part_of(node: onnx.NodeProto, model: PreTrainedModel) -> set[str]:
    """Which of the parts an operator belongs to, by the module that the exporter found it in."""
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
    # of all that it stands in, from the outermost, and its own kind: ["", "model", "model.bert", ..., "linear"]
    names = [name for name in ast.literal_eval(scopes) if name.startswith("model.")]
    module = max(names, key=len, default="").removeprefix("model.")
    depth = model.config.num_hidden_layers
    stack = next((name for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None)
    return {
        part
        for part, inside in {
            "the head": not module.startswith(f"{model.base_model_prefix}."),
            "the first layer": module.startswith(f"{stack}.0."),
            "the last layer": module.startswith(f"{stack}.{depth - 1}."),
            "the embeddings": "embed" in module,
            "attention": "att" in module,
        }.items()
        if inside
    }


def _listed(kept: int) -> str:
    return ", ".join(_PARTS[1 : kept + 1]) or _PARTS[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch says of its own code while it exports."""
    logger = logging.getLogger("torch.onnx")
    former = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(former)
