"""Tokenizers, configurations and weights by name: what is found is as trained, what is not is said in one sentence."""

import json
import logging
import shutil
import time

import pytest
import torch
from conftest import tiny_tokenizer

from ner_lightning.errors import InputError
from ner_lightning.pretrained import (
    _hub_answers,
    as_in_text,
    head_parameters,
    load_config,
    load_token_classifier,
    load_tokenizer,
    longest_input,
    marks_subwords,
    needs_spaces,
    trained_labels,
)

LABELS = ["O", "B-PER", "I-PER"]
TEXTS = ["Mira Toll visited Arvenholm .", "The lake of Sorn froze , he said .", "He lives , she lives ; they live ."]
SENTENCES = [["He", "lives"], ["Mira", "visited", "Sorn", "."], ["lake"], ["“", "Ostric", "”", "-", "é1"]]
SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(autouse=True)
def _forget_the_hub():
    """What one test found on its Hub is nothing to the next."""
    _hub_answers.cache_clear()


@pytest.mark.parametrize(("family", "reserved"), [("Roberta", 2), ("Bert", 0)])
def test_the_longest_input_leaves_out_positions_that_a_model_keeps_for_padding(family, reserved):
    import transformers

    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    config = getattr(transformers, f"{family}Config")(**sizes, max_position_embeddings=34, pad_token_id=1)
    without_limit = tiny_tokenizer()
    without_limit.model_max_length = int(1e30)
    longest = longest_input(without_limit, config)
    assert longest == 34 - reserved
    model = transformers.AutoModel.from_config(config)
    model(input_ids=torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))


def test_the_longest_input_is_what_the_tokenizer_states_where_that_is_less():
    from transformers import BertConfig, T5Config

    assert longest_input(tiny_tokenizer(), BertConfig(max_position_embeddings=512)) == 64
    assert longest_input(tiny_tokenizer(), T5Config()) == 64


@pytest.fixture
def said(caplog):
    """The warnings that were logged, as text."""
    caplog.set_level(logging.WARNING, "ner_lightning")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("ner_lightning")]


@pytest.fixture
def copied(tiny_model, tmp_path):
    """Make a copy of the tiny model, with files left out or changed by a function from bytes to bytes."""

    def copy(**changes):
        folder = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_model, folder)
        for file in folder.iterdir():
            if file.stem in changes:
                change = changes.pop(file.stem)
                data = file.read_bytes()
                file.unlink()
                if change is not None:
                    file.write_bytes(change(data))
        assert not changes
        return folder

    return copy


def with_options(**options):
    return lambda data: json.dumps(json.loads(data) | options).encode()


def half(data):
    return data[: len(data) // 2]


def ids(tokenizer, words):
    return tokenizer(words, is_split_into_words=True).input_ids


# ---- tokenizers


def byte_level_pieces():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    pieces.train_from_iterator(TEXTS * 3, trainer)
    pieces.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return pieces


@pytest.fixture(params=["PreTrainedTokenizerFast", "RobertaTokenizer", "GPT2Tokenizer"])
def byte_level(request, tmp_path):
    """A folder with a byte-level tokenizer that knows nothing of a space before the first word."""
    import transformers

    tokenizer = getattr(transformers, request.param)(tokenizer_object=byte_level_pieces(), **SPECIAL)
    tokenizer.save_pretrained(tmp_path / "byte_level")
    return tmp_path / "byte_level"


@pytest.fixture
def unigram(tmp_path):
    """A folder with a unigram tokenizer over `▁`, as SentencePiece makes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=SPECIAL_TOKENS, unk_token="<unk>", show_progress=False
    )
    pieces.train_from_iterator(TEXTS * 3, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(tokenizer_object=pieces, **SPECIAL).save_pretrained(tmp_path / "unigram")
    return tmp_path / "unigram"


@pytest.mark.parametrize("words", SENTENCES, ids=" ".join)
def test_a_byte_level_tokenizer_splits_words_like_their_text(byte_level, words, said):
    tokenizer = load_tokenizer(str(byte_level))
    assert ids(tokenizer, words) == tokenizer(" ".join(words)).input_ids
    assert not said()


def test_the_offsets_of_a_byte_level_tokenizer_keep_the_first_letter(byte_level):
    text = "Mira Toll"
    tokenizer = load_tokenizer(str(byte_level))
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False).offset_mapping
    assert "".join(text[start:end] for start, end in offsets).replace(" ", "") == "MiraToll"


def test_a_byte_level_tokenizer_puts_the_space_before_every_word(byte_level):
    tokenizer = load_tokenizer(str(byte_level))
    encoded = tokenizer(["lives", "lives"], is_split_into_words=True, add_special_tokens=False)
    assert encoded.tokens() == ["Ġlives", "Ġlives"]
    assert encoded.word_ids() == [0, 1]


def test_a_byte_level_tokenizer_keeps_the_space_when_it_is_saved_again(byte_level, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = load_tokenizer(str(byte_level))
    tokenizer.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert ids(again, SENTENCES[1]) == ids(tokenizer, SENTENCES[1])


def test_word_pieces_are_left_alone(tiny_model, said):
    from transformers import AutoTokenizer

    tokenizer, plain = load_tokenizer(str(tiny_model)), AutoTokenizer.from_pretrained(tiny_model)
    assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert tokenizer.init_kwargs == plain.init_kwargs
    assert not said()


def test_unigram_pieces_are_left_alone_and_split_words_like_their_text(unigram, said):
    from transformers import AutoTokenizer

    tokenizer, plain = load_tokenizer(str(unigram)), AutoTokenizer.from_pretrained(unigram)
    assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert all(ids(tokenizer, words) == tokenizer(" ".join(words)).input_ids for words in SENTENCES)
    assert not said()


@pytest.fixture(params=["PreTrainedTokenizerFast", "Qwen2Tokenizer"])
def spaces_split_off(request, tmp_path):
    """A folder with a tokenizer as decoders have it: the spaces are split off before the byte level sees them."""
    import transformers
    from tokenizers import Regex, pre_tokenizers

    pieces = byte_level_pieces()
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer = getattr(transformers, request.param)(tokenizer_object=pieces, **SPECIAL)
    tokenizer.save_pretrained(tmp_path / "split_off")
    return tmp_path / "split_off"


@pytest.mark.parametrize("words", [*SENTENCES, ["On", "1996-08-24", ",", "he", "didn't", "pay", "3.50"]], ids=" ".join)
def test_words_are_given_their_spaces_where_a_tokenizer_reads_them_as_parts_of_words(spaces_split_off, words, said):
    tokenizer = load_tokenizer(str(spaces_split_off))
    assert needs_spaces(tokenizer)
    assert ids(tokenizer, as_in_text(words)) == tokenizer(" ".join(words)).input_ids
    assert not said()


def test_a_tokenizer_that_reads_spaces_as_parts_of_words_is_left_alone(spaces_split_off, tmp_path):
    from transformers import AutoTokenizer

    tokenizer, plain = load_tokenizer(str(spaces_split_off)), AutoTokenizer.from_pretrained(spaces_split_off)
    assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert tokenizer.init_kwargs == plain.init_kwargs
    for one, folder in ((tokenizer, "ours"), (plain, "plain")):
        one.save_pretrained(tmp_path / folder)
    for file in (tmp_path / "plain").iterdir():
        assert (tmp_path / "ours" / file.name).read_bytes() == file.read_bytes()


def test_other_tokenizers_need_no_spaces(tiny_model, byte_level, unigram):
    assert not any(needs_spaces(load_tokenizer(str(path))) for path in (tiny_model, byte_level, unigram))


def test_word_pieces_alone_mark_the_further_sub_words(tiny_model, byte_level, unigram, spaces_split_off):
    assert marks_subwords(load_tokenizer(str(tiny_model)))
    assert not any(marks_subwords(load_tokenizer(str(path))) for path in (byte_level, unigram, spaces_split_off))


def test_a_tokenizer_whose_sub_words_go_over_the_ends_of_words_is_warned_of(tmp_path, said):
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE(unk_token="<unk>"))  # without a pre-tokenizer a space is a character like others
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL_TOKENS, show_progress=False)
    pieces.train_from_iterator(["He lives in Sorn , he lives"] * 3, trainer)
    PreTrainedTokenizerFast(tokenizer_object=pieces, **SPECIAL).save_pretrained(tmp_path / "over")
    load_tokenizer(str(tmp_path / "over"))
    (warning,) = said()
    assert "splits words otherwise than the text that they make" in warning


def test_a_slow_tokenizer_is_refused_with_the_reason(tmp_path):
    from transformers import CanineTokenizer

    CanineTokenizer().save_pretrained(tmp_path / "slow")
    with pytest.raises(InputError, match=r"CanineTokenizer is a slow tokenizer, which cannot tell which word"):
        load_tokenizer(str(tmp_path / "slow"))


@pytest.mark.parametrize("family", ["Bert", "Roberta", "XLMRoberta", "DebertaV2", "T5", "GPT2", "MPNet"])
def test_a_folder_without_tokenizer_files_is_refused(tmp_path, family):
    import transformers

    getattr(transformers, f"{family}Config")().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"has a configuration but no vocabulary"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_file_cut_short(copied):
    with pytest.raises(InputError, match=r"^--model\.model_name_or_path=\S+ cannot be loaded: .+$"):
        load_tokenizer(str(copied(tokenizer=half)))


# ---- token classifiers


def saved(model, folder):
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def trained(tiny_model, tmp_path):
    """A folder with a token classifier for LABELS, and its weights."""
    model = load_token_classifier(str(tiny_model), labels=LABELS)
    return saved(model, tmp_path / "trained"), {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_encoder_has_its_weights_and_the_head_the_labels(tiny_model, said):
    from transformers import AutoModel

    model = load_token_classifier(str(tiny_model), labels=LABELS)
    assert model.config.id2label == {0: "O", 1: "B-PER", 2: "I-PER"}
    assert model.config.label2id == {"O": 0, "B-PER": 1, "I-PER": 2}
    assert model.classifier.out_features == 3
    for name, weights in AutoModel.from_pretrained(tiny_model, add_pooling_layer=False).named_parameters():
        torch.testing.assert_close(model.get_parameter(f"bert.{name}"), weights, atol=0, rtol=0)
    assert not said()


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_loaded_model_has_dropout_on(tiny_model, pretrained):
    model = load_token_classifier(str(tiny_model), labels=LABELS, pretrained=pretrained)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("pretrained", [True, False])
def test_weights_are_float32_whatever_the_file_has(tiny_model, tmp_path, pretrained):
    from transformers import AutoModel

    path = saved(AutoModel.from_pretrained(tiny_model, dtype=torch.bfloat16), tmp_path / "bfloat16")
    assert json.loads((tmp_path / "bfloat16" / "config.json").read_text())["dtype"] == "bfloat16"
    model = load_token_classifier(path, labels=LABELS, pretrained=pretrained)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_without_pretrained_a_configuration_is_enough(copied):
    path = str(copied(model=None))
    torch.manual_seed(1)
    one = load_token_classifier(path, labels=LABELS, pretrained=False)
    torch.manual_seed(2)
    other = load_token_classifier(path, labels=LABELS, pretrained=False)
    assert one.config.id2label == dict(enumerate(LABELS))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_the_packaged_configuration_makes_a_model():
    model = load_token_classifier("ner_lightning/quickstart", labels=LABELS, pretrained=False)
    assert model.classifier.out_features == 3


def test_a_head_for_the_same_labels_is_kept_bit_by_bit(trained, said):
    path, weights = trained
    model = load_token_classifier(path, labels=LABELS)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert not said()


def test_the_same_labels_in_another_order_are_an_error_with_both_lists(trained):
    with pytest.raises(InputError, match=r"\['O', 'B-PER', 'I-PER'\].*\['O', 'I-PER', 'B-PER'\].*another order"):
        load_token_classifier(trained[0], labels=["O", "I-PER", "B-PER"])


def test_another_order_does_not_matter_where_weights_are_not_loaded(trained):
    model = load_token_classifier(trained[0], labels=["O", "I-PER", "B-PER"], pretrained=False)
    assert model.config.id2label[1] == "I-PER"


@pytest.mark.parametrize("labels", [["O", "B-LOC", "I-LOC"], ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]])
def test_a_head_for_other_labels_is_replaced_and_said(trained, labels, said):
    path, weights = trained
    model = load_token_classifier(path, labels=labels)
    assert model.config.id2label == dict(enumerate(labels))
    old, new = weights["classifier.weight"], model.classifier.weight
    assert new.shape == (len(labels), 16)
    assert not torch.isin(new, old).any()
    assert 0.01 < new.std() < 0.04
    assert not model.classifier.bias.any()
    encoder = [name for name in weights if name.startswith("bert.")]
    assert all(torch.equal(model.get_parameter(name), weights[name]) for name in encoder)
    assert said() == [
        f"{path}: its head for ['O', 'B-PER', 'I-PER'] is replaced by a new one for the labels of the data"
    ]


def test_a_head_without_names_of_its_own_is_replaced_too(tiny_model, tmp_path, said):
    nameless = ["LABEL_0", "LABEL_1", "LABEL_2"]
    model = load_token_classifier(str(tiny_model), labels=nameless)
    path = saved(model, tmp_path / "nameless")
    new = load_token_classifier(path, labels=LABELS).classifier.weight
    assert not torch.isin(new, model.classifier.weight).any()
    assert said() == [f"{path}: its head for labels without names is replaced by a new one for the labels of the data"]


def test_a_new_head_with_a_norm_starts_as_the_model_draws_it(tmp_path):
    from transformers import ModernBertConfig, ModernBertForTokenClassification

    config = ModernBertConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        id2label=dict(enumerate("ab")),
        label2id={"a": 0, "b": 1},
    )
    path = saved(ModernBertForTokenClassification(config), tmp_path / "with_norm")
    model = load_token_classifier(path, labels=["c", "d"])
    assert torch.equal(model.head.norm.weight, torch.ones(16))


def test_weights_that_the_encoder_lacks_are_named(trained, tmp_path, said):
    from safetensors.torch import load_file, save_file

    path, weights = trained
    lost = "bert.encoder.layer.0.output.dense.weight"
    kept = load_file(f"{path}/model.safetensors")
    del kept[lost]
    save_file(kept, f"{path}/model.safetensors", metadata={"format": "pt"})
    model = load_token_classifier(path, labels=LABELS)
    assert said() == [f"{path} lacks weights of its encoder, drawn at random: {lost}"]
    assert torch.equal(model.classifier.weight, weights["classifier.weight"])


def test_weights_of_another_shape_than_the_configuration_says_are_named(copied, said):
    path = str(copied(config=with_options(intermediate_size=64)))
    load_token_classifier(path, labels=LABELS)
    (warning,) = said()
    assert warning.startswith(f"{path} lacks weights of its encoder, drawn at random: ")
    assert "encoder.layer.0.intermediate.dense.weight" in warning


def test_a_file_of_weights_cut_short(copied):
    with pytest.raises(InputError, match=r"^--model\.model_name_or_path=\S+ cannot be loaded: .+$"):
        load_token_classifier(str(copied(model=half)), labels=LABELS)


def test_a_folder_without_weights(copied):
    with pytest.raises(InputError, match=r"^--model\.model_name_or_path=\S+ cannot be loaded: .*model\.safetensors"):
        load_token_classifier(str(copied(model=None)), labels=LABELS)


@pytest.mark.parametrize("name", ["version_0", "version_0/checkpoints/best.ckpt"])
def test_a_run_is_no_model(tmp_path, name):
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    with pytest.raises(
        InputError, match=rf"{name}: a run and no model; .* export --ckpt_path=\S+{name} --output=FOLDER"
    ):
        load_config(str(tmp_path / name))


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_model_that_cannot_classify_tokens(copied, pretrained):
    path = str(copied(config=with_options(model_type="clip")))
    with pytest.raises(InputError, match=r"^--model\.model_name_or_path=\S+ cannot be loaded: Unrecognized .+$"):
        load_token_classifier(path, labels=LABELS, pretrained=pretrained)


def test_loading_leaves_the_verbosity_of_transformers(tiny_model):
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    try:
        load_token_classifier(str(tiny_model), labels=LABELS)
        assert transformers_logging.get_verbosity() == logging.INFO
    finally:
        transformers_logging.set_verbosity(before)


def test_trained_labels_are_in_the_order_of_their_ids(trained):
    assert trained_labels(load_config(trained[0])) == LABELS


def test_numbered_labels_are_none(tiny_model):
    assert trained_labels(load_config(str(tiny_model))) is None


def test_head_parameters_are_those_outside_the_encoder(trained):
    model = load_token_classifier(trained[0], labels=LABELS)
    assert [name for name, _ in head_parameters(model)] == ["classifier.weight", "classifier.bias"]


# ---- names: folders, the Hub, no network


def load_all(name, *, revision=None):
    return [
        lambda: load_config(name, revision=revision),
        lambda: load_tokenizer(name, revision=revision),
        lambda: load_token_classifier(name, labels=LABELS, revision=revision),
    ]


def assert_each_says(loads, match):
    for load in loads:
        start = time.monotonic()
        with pytest.raises(InputError, match=match) as caught:
            load()
        assert time.monotonic() - start < 5  # the client retries for half a minute
        assert "\n" not in str(caught.value)


@pytest.fixture
def hub_model(hub, tiny_model):
    """The fake Hub, with the tiny model under the id user/tiny."""
    hub.add_repo("model", "user/tiny", {file.name: file.read_bytes() for file in tiny_model.iterdir()})
    return hub


def test_a_model_of_the_hub_is_the_model_of_its_folder(hub_model, tiny_model):
    config, tokenizer, model = (load() for load in load_all("user/tiny"))
    assert config.hidden_size == 16
    assert ids(tokenizer, ["the", "lake"]) == ids(load_tokenizer(str(tiny_model)), ["the", "lake"])
    local = load_token_classifier(str(tiny_model), labels=LABELS)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, local.bert.embeddings.word_embeddings.weight)


def test_a_revision_of_the_hub_is_the_one_that_is_loaded(hub_model, copied):
    first = hub_model.repo("model", "user/tiny").refs["main"]
    changed = copied(config=with_options(hidden_dropout_prob=0.25)) / "config.json"
    hub_model.add_repo("model", "user/tiny", {"config.json": changed.read_bytes()})
    assert load_config("user/tiny").hidden_dropout_prob == 0.25
    assert load_config("user/tiny", revision=first).hidden_dropout_prob == 0.1


def test_an_unknown_revision_is_named(hub_model):
    assert_each_says(load_all("user/tiny", revision="v9"), r"the Hub has no such model at revision v9")


def test_an_unknown_id_is_neither_a_folder_nor_on_the_hub(hub):
    assert_each_says(load_all("user/tyni"), r"user/tyni: no folder of that name, and the Hub has no such model")


def test_a_path_that_does_not_exist_is_no_id(hub):
    assert_each_says(load_all("./models/none"), r"\./models/none: neither a folder nor the id of a model")
    assert not hub.calls()


@pytest.mark.parametrize("name", ["", "two words/x"])
def test_a_name_that_no_model_can_have(hub, name):
    assert_each_says(load_all(name), f"--model.model_name_or_path={name}")


def test_a_model_that_the_hub_does_not_show_says_how_to_log_in(hub_model):
    hub_model.fail("GET", r"/api/models/", 403, times=9, headers={"X-Error-Code": "GatedRepo"})
    assert_each_says(load_all("user/tiny"), r"does not show it to you .*`hf auth login`")


def test_a_model_whose_files_the_hub_does_not_give(hub_model):
    hub_model.fail("*", r"/resolve/", 403, times=99, headers={"X-Error-Code": "GatedRepo"})
    assert_each_says(load_all("user/tiny"), r"^--model\.model_name_or_path=user/tiny cannot be loaded: .*gated")


def test_a_hub_out_of_order_does_not_answer(hub_model):
    hub_model.fail("*", r"", 503, times=99)
    assert_each_says(load_all("user/tiny"), r"user/tiny: .*the Hub does not answer and the model is not in the cache")


def test_no_network_says_what_works_offline(caches):  # conftest points at a port that answers nothing, offline
    assert_each_says(load_all("user/tiny"), r"the Hub does not answer .* works offline: a local folder, .*quickstart")


def test_a_hub_that_is_gone_is_not_asked_again_and_again(hub_model, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    assert_each_says(load_all("user/tiny"), r"the Hub does not answer")


def test_a_model_used_before_loads_without_network(hub_model):
    before = [load() for load in load_all("user/tiny")]
    _hub_answers.cache_clear()
    hub_model.fail("*", r"", 503, times=99)
    config, tokenizer, model = (load() for load in load_all("user/tiny"))
    assert config.to_dict() == before[0].to_dict()
    assert ids(tokenizer, ["the"]) == ids(before[1], ["the"])
    assert torch.equal(model.bert.embeddings.LayerNorm.weight, before[2].bert.embeddings.LayerNorm.weight)


def test_the_hub_is_asked_again_after_it_did_not_answer(hub_model):
    hub_model.fail("*", r"", 503, times=1)
    with pytest.raises(InputError, match=r"the Hub does not answer"):
        load_config("user/tiny")
    assert load_config("user/tiny").hidden_size == 16


def test_a_model_in_the_cache_that_cannot_be_used_is_not_called_missing(hub_model, copied):
    changed = copied(config=with_options(model_type="clip")) / "config.json"
    hub_model.add_repo("model", "user/tiny", {"config.json": changed.read_bytes()})
    load_config("user/tiny")
    _hub_answers.cache_clear()
    hub_model.fail("*", r"", 503, times=99)
    with pytest.raises(InputError, match=r"user/tiny cannot be loaded: Unrecognized configuration class"):
        load_token_classifier("user/tiny", labels=LABELS)


def test_a_configuration_that_is_not_json(copied):
    with pytest.raises(InputError, match=r"cannot be loaded: It looks like the config file .* is not a valid JSON"):
        load_config(str(copied(config=half)))


def test_an_error_without_words_is_named_by_its_type(tiny_model, monkeypatch):
    from transformers import AutoConfig

    def fail(*_, **__):
        raise EOFError

    monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
    with pytest.raises(InputError, match=r"cannot be loaded: EOFError$"):
        load_config(str(tiny_model))


# ---- code of others

CODE = """\
import pathlib
from transformers import BertConfig, BertForTokenClassification, BertModel

(pathlib.Path({marker!r})).touch()


class OwnConfig(BertConfig):
    model_type = "own"


class OwnModel(BertModel):
    config_class = OwnConfig


class OwnForTokenClassification(BertForTokenClassification):
    config_class = OwnConfig
"""


@pytest.fixture
def with_code(tiny_model, tmp_path, monkeypatch):
    """A folder with a model of a class of its own, and a file that its code makes, or a question."""
    import builtins

    import transformers.dynamic_module_utils

    folder, marker = tmp_path / "with_code", tmp_path / "was_run"

    def asked(question):
        marker.touch()
        return "y"

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "OwnConfig", "AutoModel": "OwnModel"}
    names["AutoModelForTokenClassification"] = "OwnForTokenClassification"
    config |= {"model_type": "own", "auto_map": {auto: f"own.{name}" for auto, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    return folder, marker


def test_code_of_others_is_refused_in_one_sentence_and_nothing_is_asked(with_code):
    folder, marker = with_code
    sentence = (
        rf"^--model\.model_name_or_path={folder} comes with code of its own, which is not run unless you trust it: "
        r"read it, then give --model\.trust_remote_code=true on the command line "
        r"\(predict, export and push: --trust_remote_code\)$"
    )
    for load in (
        lambda: load_config(str(folder)),
        lambda: load_token_classifier(str(folder), labels=LABELS),
        lambda: load_token_classifier(str(folder), labels=LABELS, pretrained=False),
    ):
        with pytest.raises(InputError, match=sentence):
            load()
    load_tokenizer(str(folder))  # which needs none of it
    assert not marker.exists()


def test_code_of_others_is_run_where_it_is_trusted(with_code):
    folder, marker = with_code
    model = load_token_classifier(str(folder), labels=LABELS, trust_remote_code=True)
    assert type(model).__name__ == "OwnForTokenClassification"
    without_limit = load_tokenizer(str(folder), trust_remote_code=True)
    without_limit.model_max_length = int(1e30)
    assert longest_input(without_limit, model.config) == 64
    assert marker.exists()


def test_code_that_transformers_has_itself_is_not_run(with_code):
    folder, marker = with_code
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    assert type(load_token_classifier(str(folder), labels=LABELS)).__name__ == "BertForTokenClassification"
    assert not marker.exists()


def test_trust_comes_from_the_command_line_alone(with_code, conll_files, tmp_path, caches, monkeypatch, capsys):
    from ner_lightning.__main__ import main
    from ner_lightning.hub.folder import export

    folder, marker = with_code
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
    files = [f"--data.{split}_file={conll_files}/{split}.conll" for split in ("train", "validation", "test")]
    fit = ["fit", f"--model.model_name_or_path={folder}", *files, *quiet, "--trainer.max_epochs=1"]
    trust = "--model.trust_remote_code=true"

    def refused(args, sentence):
        capsys.readouterr()
        assert main(args) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert sentence in error
        assert not marker.exists()

    refused(fit, "comes with code of its own")
    (tmp_path / "trusting.yaml").write_text("model:\n  trust_remote_code: true\n")
    refused([*fit, "--config=trusting.yaml"], "a config file says model.trust_remote_code=true")
    assert main([*fit, trust]) == 0
    assert marker.exists()
    checkpoint = "runs/version_0/checkpoints/best.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    for group in ("hyper_parameters", "datamodule_hyper_parameters"):
        assert "trust_remote_code" not in saved[group]
        saved[group]["trust_remote_code"] = True  # as whoever makes a checkpoint can write
    torch.save(saved, checkpoint)
    for command in (["test", *quiet], ["inspect", *fit[1:3]]):
        marker.unlink(missing_ok=True)
        refused(command, "comes with code of its own")
    refused(["export"], "comes with code of its own")
    (tmp_path / "notes.txt").write_text("y\n")
    refused(["predict", "notes.txt"], "comes with code of its own")
    refused(["push", "runs/version_0", "--repo_id=user/own"], "comes with code of its own")
    with pytest.raises(InputError, match="comes with code of its own"):
        export()
    assert main(["test", trust, *quiet]) == 0
    assert main(["export", "--trust_remote_code=true"]) == 0
    capsys.readouterr()
