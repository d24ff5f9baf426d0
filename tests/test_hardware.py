"""Which precision is chosen on which machine; that memory can be kept here at all."""

import subprocess
import sys

import pytest
import torch

from ner_lightning.hardware import best_precision, inference_tokens, keep_memory


def processor(monkeypatch, *, avx512_bf16=False, amx=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


def gpu(monkeypatch, *, bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")


@pytest.mark.parametrize("has", [{"avx512_bf16": True}, {"amx": True}])
def test_a_processor_with_bfloat16_uses_it(monkeypatch, has):
    processor(monkeypatch, **has)
    assert best_precision() == ("bf16-mixed", "the processor computes in bfloat16")


def test_a_processor_that_would_emulate_bfloat16_does_not_use_it(monkeypatch):
    processor(monkeypatch)
    assert best_precision() == ("32-true", "the processor has no bfloat16 in hardware")


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_uses_bfloat16_where_it_is_not_emulated(monkeypatch, bf16, precision):
    processor(monkeypatch, avx512_bf16=not bf16)
    gpu(monkeypatch, bf16=bf16)
    assert best_precision()[0] == precision
    assert best_precision()[1].startswith("Some GPU ")


def test_the_processor_counts_where_it_is_asked_for_beside_a_gpu(monkeypatch):
    processor(monkeypatch, avx512_bf16=True)
    gpu(monkeypatch, bf16=False)
    assert best_precision("cpu")[0] == "bf16-mixed"


def test_other_accelerators_keep_float32():
    assert best_precision("mps") == ("32-true", "mps has no bfloat16 in hardware")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_memory_that_is_kept_is_not_zeroed_again():
    program = """
import resource, torch
from ner_lightning.hardware import keep_memory
def faults():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
assert keep_memory()
print(before, faults())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, kept = map(int, run.stdout.split())
    assert kept < before / 10


def test_nothing_is_kept_on_another_system(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory()


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 1024), ("cuda", 8192), ("mps", 8192)])
def test_batches_without_gradients_are_larger_where_it_is_no_processor(device: str, tokens: int) -> None:
    assert inference_tokens(torch.device(device)) == tokens
