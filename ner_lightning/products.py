"""Matrix products on a processor by oneDNN, where torch takes MKL: equal to rounding, and twice as fast on AMD.

MKL has no AVX-512 for other processors than Intel's. Measured on an AMD EPYC in float32, one thread, at the shapes of a
step of MiniLM: 100 GFLOP/s by MKL; by oneDNN 217 forward, 235 and 200 for the gradients of inputs and weights.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def onednn_products(*, wanted: bool = True) -> AbstractContextManager[Any]:
    """A context in which linear layers are computed by oneDNN, where that is faster.

    Args:
        wanted: False for a context that does nothing.
    """
    # a context that has nothing to do would still take two milliseconds of a forward pass
    useful = wanted and mkl_is_slow() and not torch.is_autocast_enabled("cpu")
    return OneDNNProducts() if useful else nullcontext()


class OneDNNProducts(TorchFunctionMode):
    """A context in which oneDNN computes linear layers in float32 on a processor, and their gradients."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return (_linear if func is functional.linear else func)(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    plain = input.device.type == "cpu" and input.dtype == weight.dtype == torch.float32 and type(weight) in _DENSE
    if plain and weight.ndim == 2 and input.numel() and not torch.is_autocast_enabled("cpu"):
        return _multiply(input, weight, bias)
    return functional.linear(input, weight, bias)


_DENSE = (Tensor, nn.Parameter)  # and not what another library quantises or shards


@cache
def mkl_is_slow() -> bool:
    """Whether torch multiplies by MKL on a processor that MKL does not know, and oneDNN is there."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    known = Path("/proc/cpuinfo")
    about = known.read_text(encoding="utf-8") if known.is_file() else platform.processor()
    return "AuthenticAMD" in about and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # of two dimensions, since what a function gives may be changed in place (Longformer does), and a view of it not
    flat = _Linear.apply(input.reshape(-1, input.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    found: Tensor = flat.view(*input.shape[:-1], len(weight))
    return found


class _Linear(torch.autograd.Function):
    """`functional.linear` of inputs (positions, in)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        return (
            _multiply(gradient, weight.t()) if of_input else None,
            _multiply(gradient.t(), input.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear` by oneDNN: (..., in), (out, in) of any strides, (out,) -> (..., out)."""
    # what torch's own compiler calls for a linear layer; there is no public function for it
    found: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return found
