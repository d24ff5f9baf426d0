"""A token classifier as ONNX, which onnxruntime runs on a processor: called as one of transformers is.

It holds the encoder and its head. Windows, decoding and calibration are those of every other model.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ner_lightning.errors import InputError, first_line

FILE = "model.onnx"  # in an exported folder, in place of the weights that transformers loads
NEEDED = 'pip install "ner-lightning[onnx]"'


class Output(NamedTuple):
    """What the classifier gives: logits (windows, length, labels)."""

    logits: Tensor


class OnnxClassifier(nn.Module):
    """A model that an export wrote as ONNX, with as many threads as torch has.

    Args:
        path: The file.

    Raises:
        InputError: `onnxruntime` is not installed, or the file is none that it loads.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise InputError(f"{path} needs onnxruntime: {NEEDED}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path,
                options,
                providers=["CPUExecutionProvider"],
                # the norm with its residual connection as one operator: a quarter of the time of MiniLM in int8, where
                # both apart take a tenth of that
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:  # its own types have nothing in common
            raise InputError(f"{path} cannot be loaded: {first_line(error)}") from error

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Output:
        """Run it.

        Args:
            input_ids: (windows, length).
            attention_mask: (windows, length), 0 where padded.
        """
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        (logits,) = self._session.run(["logits"], inputs)
        return Output(torch.from_numpy(logits))
