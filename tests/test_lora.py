"""LoRA from fit to a pipeline, held to peft's own merge; and what does not go with it."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from ner_lightning import TokenClassificationModule
from ner_lightning.checkpoints import classifier_weights, read_checkpoint
from ner_lightning.cli import main
from ner_lightning.errors import InputError
from ner_lightning.hub import export
from ner_lightning.hub.folder import tokenizer_of, write_model
from ner_lightning.hub.outbox import About
from ner_lightning.lora import merged
from ner_lightning.predict import Tagger
from ner_lightning.products import OneDNNProducts

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]


def test_without_peft_a_sentence_names_the_extra(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r'^--model.lora needs peft: pip install "ner-lightning\[lora\]"$'):
        TokenClassificationModule(tiny_model, labels=LABELS, lora=4)


@pytest.fixture
def module(tiny_model):
    """Make a module; its adapters, which begin as nothing, are drawn at random."""
    pytest.importorskip("peft", reason="needs the extra `lora`")

    def make(lora=4, *, model=tiny_model, **options):
        torch.manual_seed(0)
        made = TokenClassificationModule(model, labels=LABELS, lora=lora, **options)
        for name, parameter in made.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.5)
        return made

    return make


def batch_of(module, *, windows=3, length=7):
    ids = 5 + torch.arange(windows * length).view(windows, length) * 7 % (module.model.config.vocab_size - 5)
    mask = torch.ones_like(ids)
    mask[-1, -3:] = 0
    places = torch.arange(windows * length).view(windows, length)
    labels = torch.where(mask.bool(), places % len(LABELS), -100)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "word_index": torch.where(labels < 0, -1, places),
    }


def trained(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def gradients(module, batch):
    module.zero_grad()
    module.loss(batch, module(batch).logits).backward()
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def test_adapters_and_head_are_trained_and_nothing_else(module):
    made = module(4)
    # six linear layers of a BERT of one layer: four 16 x 16, one to 32 and one back
    adapters = 4 * 4 * (16 + 16) + 2 * 4 * (16 + 32)
    head = 16 * len(LABELS) + len(LABELS)
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == adapters + head
    assert {name for name in trained(made) if ".lora_" not in name} == {
        "model.classifier.weight",
        "model.classifier.bias",
    }
    assert gradients(made, batch_of(made)).keys() == trained(made)


def test_the_rank_alone_and_options_mean_the_same(module):
    layers = [
        layer
        for lora in (8, {"rank": 8}, {"rank": 8, "alpha": 16.0, "dropout": 0.1, "target_modules": "all-linear"})
        for layer in [module(lora).model.bert.encoder.layer[0].attention.self.query]
    ]
    for layer in layers:
        assert (layer.r, layer.scaling) == ({"default": 8}, {"default": 2.0})
        assert layer.lora_dropout["default"].p == 0.1


def test_target_modules_choose_layers(module):
    for targets in (["query", "attention.self.value"], "query"):
        adapted = {
            name.partition(".lora_")[0] for name in trained(module({"target_modules": targets})) if "lora" in name
        }
        assert {name.rpartition(".")[2] for name in adapted} == ({"query", "value"} if len(targets) == 2 else {"query"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("lora", [4, {"rank": 3, "alpha": 5.0, "target_modules": ["query", "dense"]}])
def test_merged_weights_give_the_logits_of_the_adapted_model(module, lora, dtype):
    from peft.tuners.lora import LoraLayer

    made = module(lora).to(dtype).eval()
    batch = batch_of(made)
    adapted = made(batch).logits
    weights = merged({name.removeprefix("model."): w for name, w in made.state_dict().items()}, lora)
    plain = module(None).to(dtype).eval()
    assert not torch.allclose(plain(batch).logits, adapted, atol=0.01)
    plain.model.load_state_dict(weights)
    rounding = {"atol": 0.05, "rtol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(plain(batch).logits, adapted, **rounding)
    # and peft's own merge
    for layer in made.modules():
        if isinstance(layer, LoraLayer):
            layer.merge()
    for name, weight in made.model.state_dict().items():
        if ".lora_" not in name:
            torch.testing.assert_close(weights[name.replace(".base_layer.", ".")], weight, **rounding)


@pytest.mark.parametrize("onednn", [True, False])
def test_recomputed_activations_give_the_same_gradients(module, onednn):
    found = []
    for recompute in (False, True):
        made = module(onednn=onednn, gradient_checkpointing=recompute)
        assert made.training
        torch.manual_seed(2)  # of dropout
        found.append(gradients(made, batch_of(made)))
        assert found[-1].keys() == trained(made)
    torch.testing.assert_close(found[1], found[0])


def test_unpadded_gives_the_same_logits(module):
    padded, unpadded = (module(unpadded=unpadded).eval() for unpadded in (False, True))
    batch = batch_of(padded)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(unpadded(batch).logits[real], padded(batch).logits[real])


def test_onednn_computes_base_layers_and_adapters(module):
    made = module(onednn=False).eval()
    batch = batch_of(made)
    expected, seen = made(batch).logits, set()

    class Seen(OneDNNProducts):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is functional.linear:
                seen.add(id(args[1]))
            return super().__torch_function__(func, types, args, kwargs)

    with Seen():
        torch.testing.assert_close(made(batch).logits, expected)
    names = [name for name, parameter in made.named_parameters() if id(parameter) in seen]
    assert sorted(names) == sorted(
        name for name, p in made.named_parameters() if p.ndim == 2 and "embeddings" not in name
    )


def test_frozen_layers_get_no_adapters(module, tiny_model, tmp_path):
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(tiny_model, num_hidden_layers=2)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    made = module(model=tmp_path, freeze_layers=1)
    assert {name.split(".layer.")[1][0] for name in trained(made) if ".lora_" in name} == {"1"}
    with pytest.raises(InputError, match=r"^--model.lora: BertModel has no linear layers to adapt, or all are frozen"):
        module(model=tmp_path, freeze_layers=2)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (0, r"^--model.lora.rank=0: give a number from 1, or leave --model.lora out$"),
        ({"r": 8}, r"^--model.lora.r: no such option; there are rank, alpha, dropout, target_modules$"),
        (True, r"^--model.lora.rank=True: give a number from 1"),
        ({"alpha": 0.0}, r"^--model.lora.alpha=0.0: give a number above 0$"),
        ({"alpha": float("inf")}, r"^--model.lora.alpha=inf: give a number above 0$"),
        ({"dropout": 1.0}, r"^--model.lora.dropout=1.0: give a number from 0 to below 1$"),
        (
            {"target_modules": ["query", "c_attn"]},
            r"^--model.lora.target_modules: there is no layer c_attn to adapt, but dense, key, query, value$",
        ),
        ({"target_modules": []}, r"^--model.lora.target_modules: give names of layers, or all-linear$"),
    ],
)
def test_a_wrong_option_is_one_sentence(module, lora, message):
    with pytest.raises(InputError, match=message):
        module(lora)


def test_a_model_of_other_layers_is_refused(module, tmp_path):
    from transformers import GPT2Config, GPT2ForTokenClassification

    config = GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    GPT2ForTokenClassification(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^--model.lora: GPT2Model has no linear layers to adapt"):
        module(model=tmp_path)


@pytest.fixture
def fit(tiny_model, conll_files, tmp_path, monkeypatch, capsys):
    """Train from the command line in an empty folder; gives the last checkpoint."""
    pytest.importorskip("peft", reason="needs the extra `lora`")
    monkeypatch.chdir(tmp_path)
    given = [
        f"--model.model_name_or_path={tiny_model}",
        *(f"--data.{split}_file={conll_files / split}.conll" for split in ("train", "validation", "test")),
        *("--model.learning_rate=0.01", "--data.batch_size=2", "--trainer.max_epochs=2"),
    ]

    def call(*options):
        assert main(["fit", *given, *QUIET, *options]) == 0, capsys.readouterr().err
        return torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)

    return call


@pytest.mark.slow
def test_a_run_from_fit_to_a_pipeline_without_peft(fit, tmp_path, monkeypatch, capsys):
    from transformers import pipeline

    checkpoint = fit("--model.lora.rank=4", "--model.lora.dropout=0.0")
    assert checkpoint["hyper_parameters"]["lora"] == {"rank": 4, "dropout": 0.0}
    assert "  lora:\n    rank: 4\n    dropout: 0.0\n" in Path("runs/version_0/config.yaml").read_text()
    base = TokenClassificationModule(checkpoint["hyper_parameters"]["model_name_or_path"], labels=LABELS).state_dict()
    after = {name.replace(".base_layer.", "."): weights for name, weights in checkpoint["state_dict"].items()}
    for name in base:
        if "classifier" not in name:
            torch.testing.assert_close(after[name], base[name], rtol=0, atol=0)
    # two moments and a count for each of what is trained: twelve matrices, and weight and bias of the head
    assert len(checkpoint["optimizer_states"][0]["state"]) == 2 * 6 + 2

    assert main(["test", *QUIET]) == 0, capsys.readouterr().err
    assert "11 words scored" in capsys.readouterr().out
    assert main(["fit", "--ckpt_path=last", "--trainer.max_epochs=3", *QUIET]) == 0, capsys.readouterr().err
    assert main(["fit", "--ckpt_path=last", "--model.lora.rank=8", "--trainer.max_epochs=4", *QUIET]) == 1
    assert "--model.lora={'rank': 8, 'dropout': 0.0}, but" in capsys.readouterr().err

    path = Path("runs/version_0/checkpoints/last.ckpt")
    adapted = TokenClassificationModule.load_from_checkpoint(path).eval()
    batch = batch_of(adapted)
    expected = adapted(batch).logits
    # as PushToHub writes it, with the model that is trained
    (tmp_path / "pushed").mkdir()
    tokenizer = tokenizer_of(dict(adapted.hparams), trust_remote_code=False)
    write_model(
        tmp_path / "pushed", read_checkpoint(path), model=adapted.model, tokenizer=tokenizer, splits=[], about=About()
    )

    monkeypatch.setitem(sys.modules, "peft", None)
    folder = export(ckpt_path=str(path), output="out")
    for place in (folder, tmp_path / "pushed"):
        assert not list(place.glob("adapter*"))
        tag = pipeline("token-classification", str(place), aggregation_strategy="first")
        logits = tag.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(logits, expected)
        phrase = "of LoRA adapters of rank 4, merged into the weights, and of the head"
        assert phrase in (place / "README.md").read_text()
    words = [["Hal", "Minnow", "likes", "Keldra", "."]]
    of_run, of_folder = (Tagger.load(place).tags(words)[0] for place in (path, folder))
    assert [word.label for word in of_run] == [word.label for word in of_folder]
    assert [word.score for word in of_run] == pytest.approx([word.score for word in of_folder])
    assert all(entity["entity_group"] in ("PER", "LOC", "ORG", "MISC") for entity in tag(" ".join(words[0])))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # of the callback that keeps each epoch
def test_a_resumed_run_gives_the_weights_of_one_that_was_not_stopped(fit, capsys):
    lora = ["--model.lora.rank=4", "--model.lora.dropout=0.1"]
    keep = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k=-1"]
    whole = fit(*lora, *keep, "--trainer.callbacks.filename={epoch}")
    first = "--ckpt_path=runs/version_0/checkpoints/epoch=0.ckpt"
    assert main(["fit", first, *lora, *QUIET]) == 0, capsys.readouterr().err
    resumed = torch.load("runs/version_1/checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == whole["global_step"] == 4
    torch.testing.assert_close(classifier_weights(resumed), classifier_weights(whole), rtol=0, atol=0)


def test_the_rank_alone_is_recorded_as_it_was_given(fit, capsys):
    assert fit("--model.lora=4")["hyper_parameters"]["lora"] == 4
    assert "  lora: 4\n" in Path("runs/version_0/config.yaml").read_text()
    again = ["fit", "--ckpt_path=last", "--trainer.max_epochs=3", "--model.lora=4", *QUIET]
    assert main(again) == 0, capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16(fit, precision, capsys):
    fit("--model.lora=4", "--model.gradient_checkpointing=true", f"--trainer.precision={precision}")
    assert main(["test", f"--trainer.precision={precision}", *QUIET]) == 0, capsys.readouterr().err
    assert "11 words scored" in capsys.readouterr().out
