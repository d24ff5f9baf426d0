"""Upper case for uncased encoders: the tokenizer keeps it, the table begins with it, and the export is ordinary."""

import json

import pytest
import torch
from conftest import tiny_tokenizer

from ner_lightning.casing import add_spellings, keep_case, lower_case_ids, spellings
from ner_lightning.errors import InputError


@pytest.fixture(scope="module")
def uncased():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] lake sorn ##en mira a ##a m ##m zoe 12 . straße ß".split()
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=True)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("lake Sorn", ["lake", "Sorn"]),
        ("LAKE sornen", ["LAKE", "sorn", "##en"]),
        ("Sornen SORNEN", ["Sorn", "##en", "SORN", "##EN"]),
        ("Zoë ZOË", ["Zoe", "ZOE"]),  # accents go, as before
        ("miraA [SEP] 12.", ["mira", "##A", "[SEP]", "12", "."]),
    ],
)
def test_upper_case_is_kept(uncased, text, pieces):
    assert keep_case(uncased).tokenize(text) == pieces


def test_what_is_lower_case_keeps_its_ids(uncased):
    text = "mira left the lake, sornen 12. zoë"
    assert keep_case(uncased)(text).input_ids == uncased(text).input_ids


@pytest.mark.parametrize("text", ["Lake Sorn", "LAKE sornen", "Sornen SORNEN", "Zoë ZOË [SEP]", "miraA 12."])
def test_in_lower_case_a_text_has_the_ids_that_the_uncased_tokenizer_gives(uncased, text):
    cased = keep_case(uncased)
    assert lower_case_ids(cased)[cased(text).input_ids].tolist() == uncased(text).input_ids


def test_each_spelling_is_one_of_an_older_piece(uncased):
    cased = keep_case(uncased)
    for number, spelling in enumerate(spellings(uncased)):
        assert cased.convert_tokens_to_ids(spelling.piece) == uncased.vocab_size + number
        assert uncased.convert_ids_to_tokens(spelling.of) == spelling.piece.lower()
        assert spelling.piece != spelling.piece.lower()


def test_rows_begin_as_those_of_lower_case_and_what_all_of_a_shape_share(uncased):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=uncased.vocab_size,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
    )
    before = model.get_input_embeddings().weight.detach().clone()
    add_spellings(model, uncased)
    after = model.get_input_embeddings().weight.detach()
    torch.testing.assert_close(after[: len(before)], before)
    new = spellings(uncased)
    assert len(after) == model.config.vocab_size == len(before) + len(new)
    shapes = {
        capitals: torch.stack(
            [after[len(before) + n] - before[each.of] for n, each in enumerate(new) if each.capitals is capitals]
        )
        for capitals in (False, True)
    }
    for differences in shapes.values():
        torch.testing.assert_close(differences, differences[:1].expand_as(differences))
        assert differences[0].norm() > 0
    assert not torch.allclose(shapes[False][0], shapes[True][0])


def test_a_tokenizer_that_keeps_case_is_refused():
    with pytest.raises(InputError, match=r"--model.keep_case: the tokenizer keeps upper case already; leave it out"):
        keep_case(tiny_tokenizer())


def test_a_tokenizer_of_another_kind_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(InputError, match=r"--model.keep_case: the tokenizer is not of BERT's kind \(WordPiece\)"):
        keep_case(other)


@pytest.fixture
def uncased_model(uncased, tmp_path):
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForTokenClassification(BertConfig(vocab_size=uncased.vocab_size, **sizes)).save_pretrained(tmp_path / "model")
    uncased.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_run_its_export_and_a_pipeline_see_upper_case(uncased_model, tmp_path, monkeypatch):
    from transformers import pipeline

    from ner_lightning.cli import main
    from ner_lightning.hub import export
    from ner_lightning.predict import Tagger

    monkeypatch.chdir(tmp_path)
    # a name where it is written with upper case, none where it is not
    (tmp_path / "a.conll").write_text("Mira B-PER\n. O\n\nmira O\n. O\n\nLAKE B-LOC\n. O\n\nlake O\n. O\n\n" * 8)
    options = {
        "model.model_name_or_path": uncased_model,
        "model.keep_case": "true",
        "model.learning_rate": 0.03,
        "data.train_file": "a.conll",
        "data.validation_file": "a.conll",
        "trainer.max_epochs": 8,
        "trainer.enable_progress_bar": "false",
        "trainer.accelerator": "cpu",
        "trainer.log_every_n_steps": 4,
    }
    assert not main(["fit", *(f"--{name}={value}" for name, value in options.items())])
    exported = export(output="out")
    sentences = [["Mira", "."], ["mira", "."], ["LAKE", "."], ["lake", "."]]
    expected = [["B-PER", "O"], ["O", "O"], ["B-LOC", "O"], ["O", "O"]]
    for trained in ("runs", exported):
        found = Tagger.load(trained).tags(sentences)
        assert [[word.label for word in words] for words in found] == expected
    tag = pipeline("token-classification", str(exported), aggregation_strategy="first")
    found = [[entity["entity_group"] for entity in tag(" ".join(words))] for words in sentences]
    assert found == [["PER"], [], ["LOC"], []]
    assert json.loads((exported / "config.json").read_text())["vocab_size"] > 18


def trained(model, sentences, **options):
    from lightning.pytorch import Trainer

    from ner_lightning import TokenClassificationDataModule, TokenClassificationModule

    rows = [{"tokens": words, "ner_tags": ["B-PER", *["O"] * (len(words) - 1)]} for words in sentences]
    data = TokenClassificationDataModule.from_rows(
        train=rows, validation=rows, model_name_or_path=str(model), keep_case=True, batch_size=2
    )
    torch.manual_seed(0)  # of the head
    module = TokenClassificationModule(
        str(model), labels=data.labels, keep_case=True, learning_rate=0.01, pretrained=True, **options
    )
    Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)
    return module.state_dict()


@pytest.mark.parametrize("compact", [True, False])
def test_all_windows_in_lower_case_are_those_of_a_corpus_in_lower_case(uncased_model, compact):
    config = json.loads((uncased_model / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # what is drawn differs
    (uncased_model / "config.json").write_text(json.dumps(config))
    sentences = [["Mira", "LAKE", "."], ["Sornen", "a", "12"], ["mira", "Zoe"]]
    lower = [[word.lower() for word in words] for words in sentences]
    found = trained(uncased_model, sentences, lowercase_ratio=1.0, compact_embedding=compact)
    expected = trained(uncased_model, lower, compact_embedding=compact)
    torch.testing.assert_close(found, expected)
    other = trained(uncased_model, sentences, compact_embedding=compact)
    assert any(not torch.allclose(found[name], other[name]) for name in found)


def test_what_has_no_pieces_in_both_cases_cannot_be_read_in_lower_case(uncased, uncased_model):
    from ner_lightning import TokenClassificationModule

    with pytest.raises(InputError, match=r"^--model.lowercase_ratio is for --model.keep_case=true, or a model"):
        TokenClassificationModule(uncased_model, labels=["O"], lowercase_ratio=0.1)
    with pytest.raises(InputError, match=r"^--model.lowercase_ratio is for --model.keep_case=true"):
        lower_case_ids(uncased)


def test_a_ratio_is_a_part(tiny_model):
    from ner_lightning import TokenClassificationModule

    with pytest.raises(InputError, match=r"^--model.lowercase_ratio=1.5: give a part of all training windows, from 0"):
        TokenClassificationModule(tiny_model, labels=["O"], lowercase_ratio=1.5)


def test_tokens_beside_the_vocabulary_are_refused(uncased):
    import copy

    more = copy.deepcopy(uncased)
    more.add_tokens(["[user]"])
    with pytest.raises(InputError, match=r"--model.keep_case: tokens were added to the vocabulary \(\[user\]\)"):
        keep_case(more)
