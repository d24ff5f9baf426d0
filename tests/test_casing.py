"""Upper case for uncased encoders: the tokenizer keeps it, the table begins with it, and the export is ordinary."""

import json

import pytest
import torch
from conftest import tiny_tokenizer

from ner_lightning.casing import add_spellings, keep_case, spellings
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


def test_tokens_beside_the_vocabulary_are_refused(uncased):
    import copy

    more = copy.deepcopy(uncased)
    more.add_tokens(["[user]"])
    with pytest.raises(InputError, match=r"--model.keep_case: tokens were added to the vocabulary \(\[user\]\)"):
        keep_case(more)
