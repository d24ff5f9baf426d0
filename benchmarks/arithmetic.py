"""The matrix products of a training step alone: what a step would take if it did nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForTokenClassification

from benchmarks.measuring import Job, Result, now, since
from ner_lightning.products import mkl_is_slow, product

_PASSES = ("forward", "input gradient", "weight gradient")
_KINDS = {"fp32": torch.float32, "fp32, oneDNN": torch.float32, "bf16": torch.bfloat16}


def products(job: Job) -> Result:
    """Time the products of an encoder's step: those of all linear layers and of attention, in all three passes.

    In float32 they are by oneDNN where MKL, which torch takes, is slow: nobody's step is measured by a slow product.

    Args:
        job: `encoder`, `labels`, `precision` as the Trainer of Lightning has it, and `shapes`, the (windows, length)
            of batches.

    Returns:
        `products`, the seconds of a step; `flop` of a step; `rates`, GFLOP/s by size, pass and precision at the
        median of the shapes, of a processor's thread by its own time, since others may share the machine.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = AutoConfig.from_pretrained(job["encoder"], num_labels=len(job["labels"]))
    model = AutoModelForTokenClassification.from_config(config)
    layers = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    heads, width, depth = config.num_attention_heads, config.hidden_size, config.num_hidden_layers
    dtype = torch.bfloat16 if job["precision"].startswith("bf16") else torch.float32
    weights = [torch.randn(out, into, device=device, dtype=dtype) for into, out in layers]
    seconds, flop = [], 0
    for windows, length in [job["shapes"][0], *job["shapes"]]:  # the first one warms up
        calls = list(_linear(windows * length, weights, onednn=mkl_is_slow()))
        flops = sum(6 * windows * length * into * out for into, out in layers)
        for _ in range(depth):
            calls += _attention(windows * heads, length, width // heads, device, dtype)
            flops += 6 * 2 * windows * length * length * width
        seconds.append(_time(calls, device))
        flop += flops
    shapes = len(job["shapes"])
    mean = [sum(each) / shapes for each in zip(*seconds[1:], strict=True)]
    windows, length = sorted(job["shapes"], key=lambda shape: shape[0] * shape[1])[shapes // 2]
    return {"products": mean, "flop": flop / (shapes + 1), "rates": _rates(windows * length, layers, device)}


def _linear(tokens: int, weights: list[Tensor], *, onednn: bool) -> Iterator[Callable[[], Any]]:
    def call(x: Tensor, weight: Tensor) -> Callable[[], Any]:  # x (positions, in), weight (out, in)
        if onednn and x.dtype == torch.float32 and not x.is_cuda:
            return partial(product, x, weight)
        return partial(torch.mm, x, weight.t(), out=x.new_empty(len(x), len(weight)))

    gradients = []
    for weight in weights:
        out, into = weight.shape
        x, y = weight.new_empty(tokens, into).normal_(), weight.new_empty(tokens, out).normal_()
        yield call(x, weight)
        gradients.append((x, weight, y))
    for x, weight, y in reversed(gradients):
        yield call(y, weight.t())
        yield call(y.t(), x.t())


def _attention(batch: int, length: int, width: int, device: Any, dtype: Any) -> list[Callable[[], Any]]:
    """Scores and weighted values, and two products backward for each."""
    q, k = (torch.randn(batch, length, width, device=device, dtype=dtype) for _ in range(2))
    p = torch.randn(batch, length, length, device=device, dtype=dtype)
    wide, long = torch.empty_like(q), torch.empty_like(p)
    return [
        *[partial(torch.bmm, q, k.transpose(1, 2), out=long)] * 2,
        *[partial(torch.bmm, p, q, out=wide)] * 2,
        *[partial(torch.bmm, p.transpose(1, 2), q, out=wide)] * 2,
    ]


def _rates(tokens: int, layers: list[tuple[int, int]], device: Any) -> dict[str, dict[str, float]]:
    rates: dict[str, dict[str, float]] = {}
    for into, out in dict.fromkeys(layers):
        for name, dtype in _KINDS.items():
            weight = torch.randn(out, into, device=device, dtype=dtype)
            calls = list(_linear(tokens, [weight], onednn=name == "fp32, oneDNN"))
            for step, call in zip(_PASSES, calls, strict=True):
                _time([call], device)
                repeats = max(1, min(50, int(5e9 / (2 * tokens * into * out))))
                wall, processor = _time([call] * repeats, device)
                row = rates.setdefault(f"{tokens} x {into} x {out}, {step}", {})
                row[name] = 2e-9 * tokens * into * out * repeats / (wall if device.type == "cuda" else processor)
    return rates


def _time(calls: list[Callable[[], Any]], device: Any) -> tuple[float, float]:
    start = now()
    for call in calls:
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return tuple(since(start))  # type: ignore[return-value]
