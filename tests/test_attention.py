"""Batches without their padding against the same batches with it, in each kind of model that can do so."""

import pytest
import torch
import transformers
from lightning.pytorch import Trainer

from ner_lightning import attention
from ner_lightning.attention import BEHIND_PADDING, FROM_ZERO, make_unpadded, run_unpadded
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.model import TokenClassificationModule, _recompute_activations

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
        _recompute_activations(model, onednn=True)
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


@kinds
def test_a_window_alone_gives_what_it_gives_among_others(kind, batch):
    model = able(kind).eval()
    assert make_unpadded(model)
    together = run_unpadded(model, **batch).logits
    for window, length in enumerate(LENGTHS):
        alone = model(input_ids=batch["input_ids"][window : window + 1, :length]).logits[0]
        torch.testing.assert_close(together[window, :length], alone, rtol=1e-4, atol=1e-5)


@kinds
def test_a_text_may_hold_the_padding_token(kind, batch):
    model = able(kind).eval()
    batch["input_ids"][2, 4] = 1
    real = batch["attention_mask"].bool()
    expected = model(**batch).logits[real]
    assert make_unpadded(model)
    torch.testing.assert_close(run_unpadded(model, **batch).logits[real], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_who_calls_the_model_himself_gets_padded_results(kind, batch):
    model = able(kind).eval()
    expected = model(**batch).logits
    assert make_unpadded(model)
    torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=0)


def test_attention_drops_out_in_training_alone(batch):
    model = built("bert", attention_probs_dropout_prob=0.5).train()
    assert make_unpadded(model)
    torch.manual_seed(3)
    once, again = (run_unpadded(model, **batch).logits for _ in range(2))
    assert not torch.allclose(once, again)
    model.eval()
    once, again = (run_unpadded(model, **batch).logits for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "heads"), [("bert", 4), ("eurobert", 2), ("modernbert", 4)])
def test_a_flash_kernel_is_called_as_it_is_documented(kind, heads, batch, monkeypatch):
    """Its part is played window by window, by the mathematics that flash-attn states for its arguments."""
    calls = []

    def kernel(q, k, v, ends_q, ends_k, longest_q, longest_k, *, dropout_p, softmax_scale, window_size):
        calls.append(window_size)
        assert ends_q.tolist() == ends_k.tolist() == [0, 23, 25, 36, 53, 56]
        assert ends_q.dtype == torch.int32
        assert (longest_q, longest_k, dropout_p, k.shape[1]) == (23, 23, 0.0, heads)
        rows = []
        for start, end in zip(ends_q[:-1].tolist(), ends_q[1:].tolist(), strict=True):
            keys, values = (states[start:end].repeat_interleave(q.shape[1] // heads, 1) for states in (k, v))
            scores = torch.einsum("ihd,jhd->hij", q[start:end], keys) * softmax_scale
            places = torch.arange(end - start)
            if window_size[0] >= 0:
                scores = scores.masked_fill((places[:, None] - places).abs() > window_size[0], -torch.inf)
            rows.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), values))
        return torch.cat(rows)

    model = able(kind).eval()
    expected = model(**batch).logits
    assert make_unpadded(model)
    monkeypatch.setattr(attention, "_flash_kernel", lambda states: kernel)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(run_unpadded(model, **batch).logits[real], expected[real], rtol=1e-4, atol=1e-5)
    near, far = (5, 5), (-1, -1)
    assert calls == ([far, near, far, near] if kind == "modernbert" else [far] * 4)


def test_a_saved_model_knows_nothing_of_it(batch, tmp_path):
    model = built("bert").eval()
    expected = model(**batch).logits
    assert make_unpadded(model)
    model.save_pretrained(tmp_path)
    assert "attn" not in (tmp_path / "config.json").read_text()
    loaded = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
    torch.testing.assert_close(loaded(**batch).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "options"), [("deberta-v2", {}), ("mpnet", {}), ("bert", {"is_decoder": True}), ("llama", {})]
)
def test_other_kinds_run_padded_and_say_so(kind, options, batch, caplog):
    model = built(kind, **options)
    before = model.config._attn_implementation
    assert not make_unpadded(model)
    assert caplog.messages == [
        f"{type(model).__name__} runs padded: it is not known to give the same without padding",
    ]
    assert model.config._attn_implementation == before


def test_code_of_its_own_under_the_name_of_a_kind_runs_padded(caplog):
    class Remote(transformers.BertForTokenClassification):
        """As `trust_remote_code` makes one."""

    assert not make_unpadded(Remote(built("bert").config))
    assert "Remote runs padded" in caplog.text


def test_a_fit_gives_the_weights_of_a_padded_one(conll_files, tiny_model, tmp_path):
    weights = {}
    for unpadded in (False, True):
        files = {f"{split}_file": str(conll_files / f"{split}.conll") for split in ("train", "validation")}
        data = TokenClassificationDataModule(model_name_or_path=str(tiny_model), batch_size=3, seed=0, **files)
        torch.manual_seed(0)
        model = TokenClassificationModule(str(tiny_model), labels=data.labels, learning_rate=1e-3, unpadded=unpadded)
        assert model._unpadded == unpadded
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = Trainer(
            max_epochs=3,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, data)
        weights[unpadded] = model.state_dict()
    for found in weights.values():
        # added to each score of a place alike, so softmax drops it: its gradient is rounding, which AdamW blows up
        del found["model.bert.encoder.layer.0.attention.self.key.bias"]
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-4, atol=1e-5)
