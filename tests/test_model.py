"""The module under a real Trainer: what it learns, what it logs, what its checkpoints hold, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader

from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.embedding import CompactEmbedding
from ner_lightning.errors import InputError
from ner_lightning.model import TokenClassificationModule
from ner_lightning.saving import LastCheckpoint

LABELS = ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
SPLITS = ("train", "validation", "test")

# of Lightning about torch, about too few workers and about a folder used again, and of the Hub client where the
# environment has its progress bars off
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
]


@pytest.fixture
def make_data(conll_files, tiny_model):
    def make(**options):
        files = {f"{split}_file": str(conll_files / f"{split}.conll") for split in SPLITS}
        given = {**files, "model_name_or_path": str(tiny_model), "batch_size": 1, "seed": 0, **options}
        return TokenClassificationDataModule(**given)

    return make


@pytest.fixture
def make_model(tiny_model):
    def make(**options):
        torch.manual_seed(0)  # of the head
        return TokenClassificationModule(**{"model_name_or_path": str(tiny_model), "labels": LABELS, **options})

    return make


@pytest.fixture
def make_trainer(tmp_path):
    def make(**options):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        given = {"accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False, **quiet, **options}
        return Trainer(**{"default_root_dir": tmp_path, **given})

    return make


@pytest.fixture
def batch(make_data):
    """All of the training data."""
    return next(iter(make_data(batch_size=100).train_dataloader()))


@pytest.fixture
def fitted(make_model, make_data, make_trainer, tmp_path):
    """A checkpoint after one epoch."""
    model, path = make_model(learning_rate=1e-3), tmp_path / "one.ckpt"
    trainer = make_trainer()
    trainer.fit(model, make_data())
    trainer.save_checkpoint(path)
    return path


class Recorder(Callback):
    """The learning rates, the words and the mode of each training step."""

    def __init__(self):
        self.rates, self.words, self.modes = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(tuple(group["lr"] for group in trainer.optimizers[0].param_groups))
        self.words.append(batch["word_index"][batch["word_index"] >= 0].tolist())
        self.modes.append(all(module.training for module in pl_module.model.modules()))


# what it learns


def test_the_loss_falls_over_repeated_steps(make_model, batch):
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(batch).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_further_sub_words_are_learnt_with_their_weight(make_model, batch, weight):
    model = make_model(subword_weight=weight).eval()
    total = weights = 0.0
    logits = model(batch).logits
    for window in range(len(batch["labels"])):
        for place, label in enumerate(batch["labels"][window].tolist()):
            if label >= 0:
                own = 1.0 if batch["word_index"][window, place] >= 0 else weight
                total -= own * float(logits[window, place].detach().log_softmax(-1)[label])
                weights += own
    assert model(batch).loss.item() == pytest.approx(total / weights, rel=1e-5)


def test_with_all_weights_one_the_loss_is_that_of_transformers(make_model, batch):
    model = make_model(subword_weight=1.0).eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    assert model(batch).loss.item() == pytest.approx(model.model(**inputs).loss.item(), rel=1e-6)


class EverywhereO(TokenClassificationModule):
    """A model whose loss is twice the usual one, and which finds no entity."""

    def loss(self, batch, logits):
        """Twice."""
        return 2 * super().loss(batch, logits)

    def decode(self, batch, logits):
        """The first label is O."""
        assert logits.shape[:2] == batch["input_ids"].shape  # whole windows
        return torch.zeros(logits.shape[:2], dtype=torch.int64)


def test_a_subclass_can_change_the_loss_and_the_decoding(tiny_model, make_data, make_trainer, batch):
    data = make_data()
    model = EverywhereO(str(tiny_model), labels=data.labels).eval()
    plain = TokenClassificationModule(str(tiny_model), labels=data.labels).eval()
    plain.load_state_dict(model.state_dict())
    assert model(batch).loss == 2 * plain(batch).loss
    trainer = make_trainer()
    scores = trainer.test(model, data, verbose=False)[0]
    assert scores["test_recall"] == 0
    assert 0 < scores["test_accuracy"] < 1
    assert not any(label_ids.any() for _, label_ids, _ in trainer.predict(model, data.loader("test")))


def test_fit_learns_by_heart(make_model, make_data, make_trainer, conll_files):
    data = make_data(validation_file=str(conll_files / "train.conll"), batch_size=4)
    trainer = make_trainer(max_epochs=60)
    trainer.fit(make_model(learning_rate=2e-2), data)
    assert trainer.callback_metrics["val_f1"] > 0.8


def test_decay_and_learning_rate_go_to_the_right_parameters(make_model, make_data, make_trainer):
    model = make_model(learning_rate=1e-3, head_learning_rate=1e-2, weight_decay=0.3, freeze_embeddings=True)
    trainer = make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(model, make_data())
    (optimizer,) = trainer.optimizers
    names = {parameter: name for name, parameter in model.model.named_parameters()}
    found = {
        names[p]: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found)
    assert set(found) == {name for name in names.values() if not name.startswith("bert.embeddings.")}
    for name, (rate, decay) in found.items():
        assert rate == (1e-2 if name.startswith("classifier.") else 1e-3), name
        assert decay == (0.0 if name.endswith("bias") or "LayerNorm" in name else 0.3), name


def test_the_head_has_the_common_learning_rate_by_default(make_model, make_data, make_trainer):
    trainer = make_trainer(limit_train_batches=1, limit_val_batches=0)
    trainer.fit(make_model(learning_rate=1e-3), make_data())
    assert {group["initial_lr"] for group in trainer.optimizers[0].param_groups} == {1e-3}


def test_the_learning_rate_rises_and_falls_to_zero(make_model, make_data, make_trainer):
    recorder = Recorder()
    model = make_model(learning_rate=1e-3, head_learning_rate=1e-2, warmup_ratio=0.25)
    trainer = make_trainer(max_epochs=2, callbacks=[recorder])
    trainer.fit(model, make_data())  # 2 epochs of 4 steps, 2 of them warm-up
    shape = [0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [max(rates) for rates in recorder.rates] == pytest.approx([1e-2 * part for part in shape])
    assert [min(rates) for rates in recorder.rates] == pytest.approx([1e-3 * part for part in shape])
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.0] * 4)


@pytest.mark.parametrize("num_workers", [0, 2])  # workers ask for their first batches ahead
def test_a_resumed_run_has_the_learning_rates_and_batches_of_an_uninterrupted_one(
    make_model, make_data, make_trainer, tmp_path, num_workers
):
    whole, before, after = Recorder(), Recorder(), Recorder()
    options = {"learning_rate": 1e-3, "warmup_ratio": 0.25}
    make_trainer(max_epochs=3, callbacks=[whole]).fit(make_model(**options), make_data(num_workers=num_workers))

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = True

    stopped = make_trainer(max_epochs=3, callbacks=[before, Stop(), LastCheckpoint()], enable_checkpointing=True)
    stopped.fit(make_model(**options), make_data(num_workers=num_workers))
    resumed = make_trainer(max_epochs=3, callbacks=[after, LastCheckpoint()], enable_checkpointing=True)
    resumed.fit(
        make_model(**options), make_data(num_workers=num_workers), ckpt_path=tmp_path / "checkpoints" / "last.ckpt"
    )
    assert len(before.rates) == 4
    assert before.rates + after.rates == whole.rates
    assert before.words + after.words == whole.words


def test_training_without_an_end_is_refused(make_model, make_data, make_trainer):
    trainer = make_trainer(max_epochs=-1, max_steps=-1)
    with pytest.raises(InputError, match=r"give --trainer\.max_epochs or max_steps"):
        trainer.fit(make_model(), make_data())


def test_dropout_is_on_in_training_and_off_in_evaluation(make_model, make_data, make_trainer):
    recorder, modes = Recorder(), []

    class Evaluation(Callback):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            modes.append(any(module.training for module in pl_module.model.modules()))

    make_trainer(max_epochs=2, callbacks=[recorder, Evaluation()]).fit(make_model(), make_data())
    assert recorder.modes == [True] * 8
    assert modes
    assert not any(modes)


def test_frozen_embeddings_do_not_move(make_model, make_data, make_trainer):
    model = make_model(learning_rate=1e-2, freeze_embeddings=True)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    make_trainer(limit_val_batches=0).fit(model, make_data())
    still = {name for name, p in model.model.named_parameters() if torch.equal(p, before[name])}
    assert still == {name for name in before if name.startswith("bert.embeddings.")}


def test_frozen_layers_take_the_embeddings_below_them_along(make_model):
    model = make_model(freeze_layers=1)
    trained = {name for name, p in model.model.named_parameters() if p.requires_grad}
    assert trained == {"classifier.weight", "classifier.bias"}


class KindOfEmbedding(Callback):
    def on_train_batch_end(self, trainer, pl_module, *args):
        self.kind = type(pl_module.model.get_input_embeddings())


def test_a_run_with_a_compact_embedding_saves_what_one_without_does(make_model, make_data, make_trainer, tmp_path):
    kinds, saved = [], []
    for compact_embedding in (False, True):
        seen, path = KindOfEmbedding(), tmp_path / f"{compact_embedding}.ckpt"
        model = make_model(learning_rate=1e-3, compact_embedding=compact_embedding)
        trainer = make_trainer(max_epochs=2, gradient_clip_val=1.0, callbacks=[seen])
        torch.manual_seed(0)  # of dropout
        trainer.fit(model, make_data())
        trainer.save_checkpoint(path)
        kinds.append(seen.kind)
        saved.append(torch.load(path, weights_only=True))
        assert type(model.model.get_input_embeddings()) is nn.Embedding
    assert kinds == [nn.Embedding, CompactEmbedding]
    torch.testing.assert_close(saved[0]["state_dict"], saved[1]["state_dict"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(saved[0]["optimizer_states"], saved[1]["optimizer_states"], rtol=1e-4, atol=1e-7)


def own_optimizer(model):
    class OwnOptimizer(type(model)):
        def configure_optimizers(self):
            return super().configure_optimizers()

    model.__class__ = OwnOptimizer


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"callbacks": [EMAWeightAveraging()]}, None),
        ({"callbacks": [StochasticWeightAveraging(1e-3)]}, None),
        ({"strategy": "ddp", "devices": 1}, None),
        ({"reload_dataloaders_every_n_epochs": 1}, None),
        ({}, own_optimizer),
    ],
    ids=["moving average", "average", "ddp", "other loaders", "other optimizer"],
)
def test_where_the_table_cannot_be_compact_it_is_whole(make_model, make_data, make_trainer, options, change):
    seen, model = KindOfEmbedding(), make_model(learning_rate=1e-3)
    if change:
        change(model)
    callbacks = [seen, *options.pop("callbacks", [])]
    try:
        make_trainer(max_epochs=2, callbacks=callbacks, **options).fit(model, make_data())
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert seen.kind is nn.Embedding


def test_after_a_run_that_failed_a_run_on_other_data_trains_its_table(make_model, make_data, make_trainer):
    class Fail(Callback):
        def on_train_batch_end(self, *args):
            raise RuntimeError("failed")

    model = make_model()
    with pytest.raises(RuntimeError, match="failed"):
        make_trainer(callbacks=[Fail()]).fit(model, make_data())
    assert type(model.model.get_input_embeddings()) is CompactEmbedding
    seen = KindOfEmbedding()
    loader = DataLoader([next(iter(make_data().train_dataloader()))], batch_size=None)
    make_trainer(callbacks=[seen], max_steps=1, limit_val_batches=0).fit(model, loader, loader)
    assert seen.kind is nn.Embedding


class SaveFirstEpoch(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(trainer.default_root_dir + "/half.ckpt")


@pytest.mark.parametrize("first", [False, True])
def test_a_run_goes_on_with_the_other_kind_of_embedding(make_model, make_data, make_trainer, tmp_path, first):
    def fit(compact_embedding, **options):
        model = make_model(learning_rate=1e-3, compact_embedding=compact_embedding)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # where a run goes on, its stream begins anew
        make_trainer(max_epochs=2, callbacks=[SaveFirstEpoch()]).fit(model, make_data(), **options)
        return model.state_dict()

    whole = fit(first)
    resumed = fit(not first, ckpt_path=tmp_path / "half.ckpt")
    torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-7)


def test_gradients_are_let_go_after_the_step_and_kept_while_they_accumulate(make_model, make_data, make_trainer):
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(any(parameter.grad is not None for parameter in pl_module.parameters()))

    make_trainer(max_steps=2, accumulate_grad_batches=2, callbacks=[Watch()]).fit(make_model(), make_data())
    assert seen == [True, False, True, False]


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_gradients_are_clipped_as_pytorch_does(make_model, make_data, make_trainer, limit):
    class Gradients(Callback):
        def on_fit_start(self, trainer, pl_module):
            trainer.optimizers[0].register_step_post_hook(lambda *_: self.see("clipped", pl_module))

        def on_after_backward(self, trainer, pl_module):
            self.see("before", pl_module)

        def see(self, name, module):
            setattr(self, name, [p.grad.clone() for p in module.parameters() if p.grad is not None])

    seen = Gradients()
    make_trainer(max_steps=1, gradient_clip_val=limit, callbacks=[seen]).fit(make_model(), make_data())
    expected = [nn.Parameter(gradient) for gradient in seen.before]
    for parameter in expected:
        parameter.grad = parameter.detach().clone()
    nn.utils.clip_grad_norm_(expected, limit)
    torch.testing.assert_close(seen.clipped, [parameter.grad for parameter in expected], rtol=1e-6, atol=0)
    assert limit < 1 or all(torch.equal(one, two) for one, two in zip(seen.clipped, seen.before, strict=True))


@pytest.mark.parametrize("layers", [2, -1])
def test_more_layers_than_there_are_cannot_be_frozen(make_model, layers):
    with pytest.raises(InputError, match=f"--model.freeze_layers={layers}: the model has 1 layers to freeze"):
        make_model(freeze_layers=layers)


def test_layers_that_stand_in_no_list_cannot_be_frozen(tmp_path, make_model):
    from transformers import AlbertConfig

    AlbertConfig(  # one layer, used twice
        vocab_size=9,
        embedding_size=4,
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=8,
        num_hidden_layers=2,
    ).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"--model\.freeze_layers=1: the model has no list of layers to freeze"):
        make_model(model_name_or_path=str(tmp_path), pretrained=False, freeze_layers=1)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, 10])
def test_a_warmup_outside_its_range_is_refused(make_model, ratio):
    with pytest.raises(InputError, match=f"--model.warmup_ratio={ratio}: give a part of all steps"):
        make_model(warmup_ratio=ratio)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_checkpointing_changes_no_loss_and_no_gradient(make_model, batch, frozen):
    outcomes = []
    for checkpointing in (False, True):
        model = make_model(gradient_checkpointing=checkpointing, freeze_embeddings=frozen)
        torch.manual_seed(1)  # of dropout
        loss = model(batch).loss
        loss.backward()
        gradients = [p.grad for p in model.model.parameters() if p.requires_grad]
        assert all(gradient is not None for gradient in gradients)
        outcomes.append((float(loss.detach()), gradients))
    assert outcomes[0][0] == outcomes[1][0]
    assert all(torch.allclose(one, other) for one, other in zip(outcomes[0][1], outcomes[1][1], strict=True))


def test_gradient_checkpointing_that_a_model_cannot_do_is_refused(tmp_path, make_model):
    from transformers import MPNetConfig

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
    MPNetConfig(vocab_size=9, **sizes).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"--model\.gradient_checkpointing: MPNetForTokenClassification cannot do it"):
        make_model(model_name_or_path=str(tmp_path), pretrained=False, gradient_checkpointing=True)


# what it logs


def test_the_logged_names_are_those_of_the_design(make_model, make_data, make_trainer):
    trainer, model, data = make_trainer(), make_model(), make_data()
    trainer.fit(model, data)
    parts = ["f1", "precision", "recall", "support"]
    scores = {"loss", "accuracy", "words", *parts}
    scores |= {f"{part}_{name}" for part in parts for name in ("LOC", "MISC", "ORG", "PER")}
    assert set(trainer.callback_metrics) == {"train_loss"} | {f"val_{name}" for name in scores | {"temperature"}}
    trainer.test(model, data, verbose=False)
    interval = {"interval_low", "interval_high", "interval_documents"}
    calibration = {"temperature", "calibration_error", "calibration_error_before"}
    assert set(trainer.callback_metrics) == {f"test_{name}" for name in scores | interval | calibration}


@pytest.fixture
def scores_of(make_data, make_trainer, fitted):
    def score(**options):
        model = TokenClassificationModule.load_from_checkpoint(fitted)
        return make_trainer().validate(model, make_data(**options), verbose=False)[0]

    return score


@pytest.mark.parametrize("options", [{"eval_batch_size": 1}, {"num_workers": 2}, {"eval_batch_size": 1, "seed": 3}])
def test_scores_do_not_depend_on_batches_and_workers(scores_of, conll_files, options):
    path = str(conll_files / "train.conll")  # four sentences
    many, other = (scores_of(validation_file=path, **more) for more in ({"eval_batch_size": 4}, options))
    of_logits = {"val_loss", "val_temperature"}  # whose last bits depend on the other windows of a batch
    assert {name: many[name] for name in many.keys() - of_logits} == {
        name: other[name] for name in other.keys() - of_logits
    }
    for name in of_logits:
        assert many[name] == pytest.approx(other[name], rel=1e-5)
    assert many["val_words"] == 20


def test_scores_do_not_depend_on_a_window_that_all_sentences_fit_in(scores_of):
    assert scores_of(max_seq_length=40) == scores_of(max_seq_length=64)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_sentences_cut_into_windows_are_scored_whole(scores_of, batch_size):
    scores = scores_of(max_seq_length=16, eval_batch_size=batch_size)
    assert scores["val_words"] == 12
    assert scores["val_support"] == 4
    others = scores_of(max_seq_length=16, eval_batch_size=100)
    assert scores == pytest.approx(others, rel=1e-5)


def test_the_loss_does_not_depend_on_batches_with_all_sub_words_labelled_either(scores_of):
    alone, together = (scores_of(label_all_tokens=True, eval_batch_size=size)["val_loss"] for size in (1, 2))
    assert alone == pytest.approx(together, rel=1e-5)


def test_the_loss_is_the_mean_over_words(scores_of, make_data, fitted):
    model = TokenClassificationModule.load_from_checkpoint(fitted).eval()
    total, words = 0.0, 0
    for batch in make_data(eval_batch_size=1).val_dataloader():
        learnt = batch["word_index"] >= 0
        with torch.no_grad():
            logits = model(batch).logits
        total += float(torch.nn.functional.cross_entropy(logits[learnt], batch["labels"][learnt], reduction="sum"))
        words += int(learnt.sum())
    assert words == 12
    assert scores_of()["val_loss"] == pytest.approx(total / words, rel=1e-5)
    assert scores_of(label_all_tokens=True)["val_loss"] == pytest.approx(total / words, rel=1e-5)


def test_the_steps_of_token_budgets_are_known_beforehand(make_model, make_data, make_trainer):
    data = make_data(batch_size=None, max_tokens=48, max_seq_length=16)
    trainer, model = make_trainer(max_epochs=3), make_model()
    trainer.fit(model, data)
    assert trainer.global_step == trainer.estimated_stepping_batches == 3 * len(data.train_dataloader())
    assert set(model.lr_schedulers().get_last_lr()) == {0.0}


def memory_of_a_device(_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def memory_of_the_machine(_):
    torch.empty(2**60, dtype=torch.uint8)


def another_failure(_):
    raise RuntimeError("shape mismatch")


def fails_above(model, limit, fail):
    """The sub-words of the batches that the encoder was given; it fails with those that hold more than `limit`."""
    given = []

    def hook(module, args, kwargs):
        given.append(kwargs["input_ids"].numel())
        if given[-1] > limit:
            fail(given[-1])

    model.model.register_forward_pre_hook(hook, with_kwargs=True)
    return given


@pytest.mark.parametrize("fail", [memory_of_a_device, memory_of_the_machine])
def test_a_batch_that_does_not_fit_in_memory_is_scored_in_halves(make_data, make_trainer, fitted, caplog, fail):
    data = make_data(eval_batch_size=5, max_seq_length=13)  # two whole batches and a part of one
    whole, halved = (TokenClassificationModule.load_from_checkpoint(fitted) for _ in range(2))
    expected = make_trainer().validate(whole, data, verbose=False)[0]
    given = fails_above(halved, 30, fail)
    scores = make_trainer().validate(halved, data, verbose=False)[0]
    assert scores.pop("val_loss") == pytest.approx(expected.pop("val_loss"), rel=1e-5)
    assert scores == expected
    assert [size for size in given if size > 30] == [65, 39]  # each size was tried once
    assert [record.getMessage() for record in caplog.records if record.name == "ner_lightning.model"] == [
        f"a batch of {windows} windows of 13 sub-words does not fit in memory: such batches are halved from here on; "
        f"--data.eval_max_tokens={tokens} does without the attempts"
        for windows, tokens in ((5, 32), (3, 19))
    ]


@pytest.mark.parametrize(
    ("limit", "fail", "message"),
    [(5, memory_of_a_device, "out of memory"), (30, another_failure, "shape mismatch")],
    ids=["one window", "another failure"],
)
def test_what_halving_does_not_help_stays_an_error(make_data, make_trainer, fitted, limit, fail, message):
    model = TokenClassificationModule.load_from_checkpoint(fitted)
    fails_above(model, limit, fail)
    with pytest.raises(RuntimeError, match=message):
        make_trainer().validate(model, make_data(), verbose=False)


@pytest.mark.parametrize("limit", [1, 0.5])
def test_a_part_of_the_split_is_scored_as_a_part(make_model, make_data, make_trainer, limit):
    trainer = make_trainer(limit_val_batches=limit, limit_test_batches=limit)
    data = make_data(eval_batch_size=1)
    assert trainer.validate(make_model(), data, verbose=False)[0]["val_words"] == 7
    assert trainer.test(make_model(), data, verbose=False)[0]["test_words"] == 5


def test_a_word_that_never_comes_is_an_error_and_not_a_lower_score(make_model, make_data, make_trainer):
    batches = list(make_data(eval_batch_size=1).val_dataloader())
    with pytest.raises(RuntimeError, match="words scored 7 of 12"):
        make_trainer().validate(make_model(), DataLoader(batches[:1], batch_size=None), verbose=False)


def test_the_sanity_check_scores_its_part(make_model, make_data, make_trainer):
    trainer = make_trainer(num_sanity_val_steps=1)
    trainer.fit(make_model(), make_data(eval_batch_size=1))
    assert trainer.callback_metrics["val_words"] == 12


def test_fast_dev_run_works(make_model, make_data, make_trainer):
    trainer = make_trainer(fast_dev_run=True)
    trainer.fit(make_model(), make_data(eval_batch_size=1))
    assert trainer.global_step == 1
    trainer.test(make_model(), make_data(eval_batch_size=1), verbose=False)


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_fit_goes_without_validation(make_model, make_data, make_trainer):
    trainer = make_trainer()
    trainer.fit(make_model(), make_data(validation_file=None))
    assert set(trainer.callback_metrics) == {"train_loss"}


def test_validate_does_not_go_without_validation(make_model, make_data, make_trainer):
    with pytest.raises(InputError, match="there is no validation split"):
        make_trainer().validate(make_model(), make_data(validation_file=None))


def test_predictions_say_which_word_they_are_of(make_model, make_data, make_trainer):
    loader = make_data(eval_batch_size=1, max_seq_length=16).loader("test")
    batches = make_trainer().predict(make_model(), loader)
    assert len(batches) > 2
    assert sorted(word for word_index, _, _ in batches for word in word_index.tolist()) == list(range(11))
    assert all(label_ids.shape == scores.shape == word_index.shape for word_index, label_ids, scores in batches)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_scores_are_probabilities_in_float32(make_model, make_data, make_trainer, precision):
    ((_, _, scores),) = make_trainer(precision=precision).predict(make_model(), make_data().loader("test"))
    assert scores.dtype == torch.float32
    assert ((scores >= 1 / len(LABELS) - 1e-6) & (scores <= 1)).all()


def test_predictions_are_the_labels_that_are_scored(make_model, make_data, make_trainer):
    data, model = make_data(max_seq_length=16), make_model()
    ((word_index, label_ids, _),) = make_trainer().predict(model, data.loader("test"))
    gold = {}
    for batch in data.test_dataloader():
        scored = batch["word_index"] >= 0
        gold |= dict(zip(batch["word_index"][scored].tolist(), batch["labels"][scored].tolist(), strict=True))
    right = [gold[word] == label for word, label in zip(word_index.tolist(), label_ids.tolist(), strict=True)]
    assert make_trainer().test(model, data, verbose=False)[0]["test_accuracy"] == pytest.approx(sum(right) / 11)


# what its checkpoints hold


def primitive(value):
    if isinstance(value, list):
        return all(map(primitive, value))
    return value is None or isinstance(value, (str, int, float, bool))


def test_every_checkpoint_loads_without_code_and_holds_primitives(
    make_model, make_data, make_trainer, tmp_path, tiny_model, conll_files
):
    keep = [ModelCheckpoint(filename="best", monitor="val_f1", mode="max"), LastCheckpoint()]
    trainer = make_trainer(enable_checkpointing=True, callbacks=keep)
    # a notebook gives paths
    data = make_data(model_name_or_path=tiny_model, train_file=conll_files / "train.conll")
    trainer.fit(make_model(model_name_or_path=tiny_model), data)
    paths = list((tmp_path / "checkpoints").iterdir())
    assert {path.name for path in paths} == {"best.ckpt", "last.ckpt"}
    for path in paths:
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["hyper_parameters"]["labels"] == LABELS
        assert all(map(primitive, checkpoint["hyper_parameters"].values()))
        assert all(map(primitive, checkpoint["datamodule_hyper_parameters"].values()))


def test_a_checkpoint_is_a_model_without_the_data(fitted, batch, make_model):
    loaded = TokenClassificationModule.load_from_checkpoint(fitted)
    weights = torch.load(fitted, weights_only=True)["state_dict"]
    assert loaded.labels == LABELS
    assert loaded.learning_rate == 1e-3
    assert loaded.model.config.id2label == dict(enumerate(LABELS))
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert loaded.eval()(batch).loss != make_model().eval()(batch).loss


@pytest.mark.parametrize("labels", [LABELS[::-1], [*LABELS, "B-X", "I-X"], LABELS[:-2]])
def test_other_labels_are_an_error_with_both_lists_before_any_change(
    make_model, make_data, make_trainer, fitted, labels
):
    model = make_model(labels=labels)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        make_trainer().validate(model, make_data(), ckpt_path=fitted)
    assert str(LABELS) in str(caught.value)
    assert str(labels) in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused(make_data, make_trainer, fitted, tmp_path, tiny_model):
    from transformers import BertConfig

    other = tmp_path / "other"
    config = BertConfig.from_pretrained(tiny_model)
    config.hidden_size = 32
    config.save_pretrained(other)
    model = TokenClassificationModule(str(other), labels=LABELS, pretrained=False)
    with pytest.raises(InputError, match=r"of another model: it was trained from .*tiny_model.*, this one is .*other"):
        make_trainer().validate(model, make_data(), ckpt_path=fitted)


def test_a_checkpoint_without_hyperparameters_is_refused(make_model, make_data, make_trainer, fitted, tmp_path):
    checkpoint = torch.load(fitted, weights_only=True)
    del checkpoint["hyper_parameters"]
    torch.save(checkpoint, tmp_path / "bare.ckpt")
    with pytest.raises(InputError, match="trained with the labels None"):
        make_trainer().validate(make_model(), make_data(), ckpt_path=tmp_path / "bare.ckpt")


# several processes

SCRIPT = """
import json, os, sys, warnings
from pathlib import Path
import torch
from lightning.pytorch import Trainer
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.model import TokenClassificationModule

warnings.simplefilter("ignore")
LABELS = "O B-LOC I-LOC B-MISC I-MISC B-ORG I-ORG B-PER I-PER".split()
checkpoint, files, model, out, devices = sys.argv[1:]
scores = {}
# with three processes some have more windows than others, or none of their own
for split, length in (("train", 9), ("validation", 64)):
    data = TokenClassificationDataModule(
        **{name + "_file": f"{files}/{split}.conll" for name in ("train", "validation", "test")}, labels=LABELS,
        model_name_or_path=model, batch_size=1, eval_batch_size=1, max_seq_length=length,
    )
    trainer = Trainer(
        accelerator="cpu", devices=int(devices), strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, max_epochs=1, default_root_dir=out,
    )
    module = TokenClassificationModule.load_from_checkpoint(checkpoint, decoding="constrained", learning_rate=0.0)
    scores[split] = {"processes": trainer.world_size}
    for run in (trainer.validate, trainer.test):
        scores[split][run.__name__] = run(module, data, verbose=False)[0]
    trainer.fit(module, data)
    scores[split]["fit"] = {name: float(n) for name, n in trainer.callback_metrics.items() if name.startswith("val_")}
Path(out, f"{devices}-{trainer.global_rank}.json").write_text(json.dumps(scores))
"""


@pytest.mark.slow
def test_three_processes_score_what_one_does(fitted, conll_files, tiny_model, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for devices in ("1", "3"):
        arguments = [str(path) for path in (script, fitted, conll_files, tiny_model, tmp_path, devices)]
        subprocess.run([sys.executable, *arguments], check=True, timeout=110, env=environment, capture_output=True)
    alone = json.loads((tmp_path / "1-0.json").read_text())
    for rank in (0, 1, 2):
        scores = json.loads((tmp_path / f"3-{rank}.json").read_text())
        assert scores["train"].pop("processes") == scores["validation"].pop("processes") == 3
        for split, by_run in scores.items():
            for run, values in by_run.items():
                assert values == alone[split][run], (rank, split, run)  # to the last digit
    assert alone["train"]["fit"] == alone["train"]["validate"]  # nothing was learnt
