"""Batches without their padding against the same batches with it, in each kind of model that can do so."""

import logging

import pytest
import torch
import transformers

from ner_lightning.attention import BEHIND_PADDING, FROM_ZERO, make_unpadded, run_unpadded
from ner_lightning.model import _recompute_activations

LENGTHS = [23, 2, 11, 17, 3]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,  # large enough that a wrong position or a word of another window is seen
    "num_labels": 3,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
OWN = {
    "distilbert": {"dim": 16, "n_layers": 4, "n_heads": 4, "hidden_dim": 32},
    "electra": {"embedding_size": 8},
    "eurobert": {"num_key_value_heads": 2},
    # of five places on either side; two of the four layers see all of a window
    "modernbert": {"local_attention": 10, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
}
NO_DROPOUT = dict.fromkeys(
    (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "dropout",
        "attention_dropout",
        "embedding_dropout",
        "mlp_dropout",
        "classifier_dropout",
    ),
    0.0,
)


def built(kind, **options):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **OWN.get(kind, {}), **NO_DROPOUT, **options})
    return transformers.AutoModelForTokenClassification.from_config(config)


def able(kind):
    if (
        kind not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
        or not (model := built(kind)).is_backend_compatible()
    ):
        pytest.skip(f"{kind} runs padded with transformers {transformers.__version__}")
    return model


@pytest.fixture
def batch():
    torch.manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    attention_mask = (torch.arange(max(LENGTHS)) < lengths[:, None]).long()
    input_ids = torch.randint(4, 50, attention_mask.shape).where(attention_mask.bool(), 1)
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def gradients(model, logits, batch):
    torch.manual_seed(2)
    real = batch["attention_mask"].bool()
    (logits * torch.randn(logits.shape))[real].sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


kinds = pytest.mark.parametrize("kind", sorted(FROM_ZERO | BEHIND_PADDING))


@kinds
@pytest.mark.parametrize("recompute", [False, True])
def test_logits_and_gradients_are_those_of_the_padded_batch(kind, recompute, batch):
    model = able(kind).train()
    if recompute:
        _recompute_activations(model)
    logits = model(**batch).logits
    expected = gradients(model, logits, batch)
    assert make_unpadded(model)
    unpadded = run_unpadded(model, **batch).logits
    real = batch["attention_mask"].bool()
    assert unpadded.shape == logits.shape
    assert not unpadded[~real].any()
    torch.testing.assert_close(unpadded[real], logits[real], rtol=1e-4, atol=1e-5)
    found = gradients(model, unpadded, batch)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
