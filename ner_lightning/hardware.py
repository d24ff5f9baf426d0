"""What a machine does best: the precision that it has in hardware, and memory and threads that cost little to use."""

from __future__ import annotations

import ctypes
import sys

import torch


def best_precision(accelerator: str = "auto") -> tuple[str, str]:
    """The precision to train with: `bf16-mixed` only where it is in hardware, since emulated it is many times slower.

    Args:
        accelerator: As the Trainer takes it.

    Returns:
        Precision as the Trainer takes it, and why in some words.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        has, what = torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.get_device_name()
    elif accelerator in ("auto", "cpu"):
        # what `torch.cpu.get_capabilities` tells in newer releases
        has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        what = "the processor"
    else:
        has, what = False, accelerator
    return ("bf16-mixed", f"{what} computes in bfloat16") if has else ("32-true", f"{what} has no bfloat16 in hardware")


def inference_tokens(device: torch.device | None = None) -> int:
    """Sub-words of a batch without gradients that a device is quick with.

    Args:
        device: By default a GPU if there is one.
    """
    on_processor = not torch.cuda.is_available() if device is None else device.type == "cpu"
    # on a processor what is larger leaves its cache: measured with 512 to 16384, fp32 and bf16; elsewhere an estimate
    return 1024 if on_processor else 8192


def keep_memory() -> bool:
    """Keep freed memory in the process, which would else go back to the system after each step and come again zeroed.

    For all of the process and for good; Linux with glibc only. A step of MiniLM has 300 page faults instead of 12,000.
    The process is never smaller than it was at its largest.

    Returns:
        Whether this could be done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    threshold, trim = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in malloc.h
    # older releases of glibc refuse more than 32 MiB
    return any(mallopt(threshold, size) for size in (1 << 30, 1 << 25)) and bool(mallopt(trim, (1 << 31) - 1))
