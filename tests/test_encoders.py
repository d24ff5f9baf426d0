# ruff: noqa: RUF001 - sentences in many scripts
"""Kinds of encoders, tiny: each is trained on words as they stand in text, scored, exported, and used by `pipeline`.

The tokenizers are trained here with the normalizer, the pre-tokenizer and the class that the models of a kind have; the
models are made from configurations. All names are invented.
"""

import json
import logging
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from conftest import columns_of

from ner_lightning.__main__ import main
from ner_lightning.encoding import Encoder
from ner_lightning.predict import predict
from ner_lightning.pretrained import load_tokenizer

SENTENCES = """\
Mira Toll visited Arvenholm on 1996-08-24 .
He doesn't like Sorn 's 12,5 % rate …
Sales began in 1996 at Quill & Co. ( QC ) .
They don't , can't and won't ; she 'll see .
中國 and 日本 met in Tarnby : 3.14 or 24/7 ?
Zoë ate a naïve crème brûlée at Café Élan .
The score was 3-1 ( 2-0 ) after 90+4 minutes .
" I'm sure , " said O'Hara , " it's 10:45 . "
`` No comment '' , Edda Voss said .
A 😀 from @mira_toll on #Velkonia : http://quill.example/a?b=1&c=2
Dr. Hal Minnow , Ph.D. , of Dorn Bank -- not Pell Union -- won .
U.S. exports rose 7.25 % to $ 1,234,567.89 in 2Q96 .
SOCCER - KELDRA BEAT OSTRIC 2 - 1 .
1 . Jon Brask ( Velkonia ) 1:57.38
The co-owner of Bralex-Motors re-elected vice-president Lena Orth .
Ünal Çetin lives in Şarköy , İlbey Öz in Iğdır .
Łukasz Żak z Łodzi ma 33 lata .
¿ Dónde está el niño ? ¡ Aquí !
Владимир Сорин уехал в Тарнби 5 мая .
Ο Νίκος μένει στη Βόλντα .
محمد في القاهرة يوم 12/5 .
दिल्ली में 25 लोग थे ।
김민수 는 서울 에 산다 .
他 1999年 在 北京 。
€ 5 or £ 6 ; 20°C , 50 km/h , 3x4 ½
R2D2 and C-3PO cost 10k each , A4 and B2B too .
e-mail : hal.minnow@dorn.example , tel. +44-20-7946-0018
[ bracket ] { brace } < angle > / slash \\ back | pipe ~ tilde
one...two ... three…four “ quotes ” ‘ single ’ „ low “
rock'n'roll in the '90s , 'tis o'clock
N.V. Philiks ( PHG.AS ) up 0.3 at 54.20
a b c d e f g h i j
x
1996
.
, , , . . . - - -
' s ' t ' re
100,000 200.000 300'000 400 000
🙂🙃 👩‍💻 🇪🇺 ❤️
TARNBY 1996-12-06
Attendance : 12,345
S. Voss lbw b Toll 37
ex-Soviet pro-Velkonian anti-Ostric mid-1990s
fifty-five twenty-first 21st 2nd 3rd
AT&T R&D Q&A I/O w/o
it 's John 's and the boys ' ball
Lake Sorn froze on the 3rd of May , 2021 !
"""
WORDS = [line.split(" ") for line in SENTENCES.splitlines()]
TYPES = ["PER", "LOC", "ORG"]
LABELS = ["O", *(f"{bi}-{type}" for type in TYPES for bi in "BI")]


@dataclass
class Kind:
    """What makes a folder like one of the Hub.

    Args:
        model: Name of the classes, as `Bert` in `BertConfig`.
        tokenizer: Trains one; of one that is a file of SentencePiece alone, its class.
        marks: Whether further sub-words have a sign (`##`), by which `pipeline` knows them.
        spaces: Whether words are encoded with the space before them.
        options: Of the configuration.
        encoder: Class whose weights are saved; by default that of `AutoModel`.
        file: Name of the SentencePiece model, where the tokenizer is that one file.
    """

    model: str
    tokenizer: Callable[[], object] | str
    marks: bool = False
    spaces: bool = False
    options: dict = field(default_factory=dict)
    encoder: str | None = None
    file: str | None = None


def trained(name, *, size=400, **options):
    """A tokenizer of a class of transformers with a vocabulary of its own."""
    import transformers

    base = getattr(transformers, name)(**options)
    return base.train_new_from_iterator(SENTENCES.splitlines() * 3, vocab_size=size, show_progress=False)


def split_bytes(pattern, *, name="PreTrainedTokenizerFast", normalizer=None, bos=None, **options):
    """A byte-level tokenizer whose spaces a pattern splits off before, as in a tokenizer.json of Llama 3 or BLOOM."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = [value for name, value in options.items() if name.endswith("_token")]
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=list(dict.fromkeys(special)),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES.splitlines() * 3, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        template = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return getattr(transformers, name)(tokenizer_object=tokenizer, **options)


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def byte_fallback(name):
    """A SentencePiece BPE with a piece for each byte, as Llama 2, Mistral and Gemma have it."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    special = ["<unk>", "<s>", "</s>"] if name == "LlamaTokenizer" else ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    special += [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # no piece goes over the end of a word
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, limit_alphabet=70, initial_alphabet=["▁"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES.splitlines() * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return getattr(transformers, name)(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def mistral():
    """The same as a tokenizer.json has it, for the class that takes it as it is: spaces are put by the normalizer."""
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    backend = byte_fallback("LlamaTokenizer").backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = None
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def sentence_pieces(folder, kind):
    """A folder with a SentencePiece model alone, as of deberta-v3 and mT5: no tokenizer.json."""
    import sentencepiece

    special = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    deberta = {**special, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    with (folder / kind.file).open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES.splitlines() * 3),
            model_writer=file,
            vocab_size=600 if kind.tokenizer == "T5Tokenizer" else 300,
            character_coverage=0.98,
            hard_vocab_limit=False,
            minloglevel=2,
            **(
                {"pad_id": 0, "bos_id": -1, "eos_id": 1, "unk_id": 2, "byte_fallback": True}
                if kind.tokenizer == "T5Tokenizer"
                else deberta
            ),
        )
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind.tokenizer}))


def modernbert():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES.splitlines() * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def token(name):
    return f"<|{name}|>"


llama_3 = partial(
    split_bytes,
    LLAMA_3,
    bos=token("begin_of_text"),
    bos_token=token("begin_of_text"),
    eos_token=token("end_of_text"),
)
bert = partial(trained, "BertTokenizer")
cased = partial(bert, do_lower_case=False)
positions = {"max_position_embeddings": 130}  # of which two are for padding
heads = {"num_key_value_heads": 1, "head_dim": 8}

KINDS = {
    "BERT": Kind("Bert", bert, marks=True),
    "mBERT": Kind("Bert", cased, marks=True),
    "DistilBERT": Kind("DistilBert", bert, marks=True, options={"hidden_dim": 32}),
    "ELECTRA": Kind("Electra", bert, marks=True, options={"embedding_size": 8}),
    "MPNet": Kind("MPNet", partial(trained, "MPNetTokenizer"), marks=True, options=positions),
    "nomic-bert": Kind("NomicBert", bert, marks=True),
    "RoBERTa": Kind("Roberta", partial(trained, "RobertaTokenizer"), options=positions),
    "XLM-R": Kind("XLMRoberta", partial(trained, "XLMRobertaTokenizer"), options=positions),
    "CamemBERT": Kind("Camembert", partial(trained, "CamembertTokenizer"), options=positions),
    "DeBERTa": Kind("Deberta", partial(trained, "DebertaTokenizer")),
    "DeBERTa-v2": Kind("DebertaV2", partial(trained, "DebertaV2Tokenizer")),
    "DeBERTa-v3": Kind("DebertaV2", "DebertaV2Tokenizer", file="spm.model"),
    "ModernBERT": Kind("ModernBert", modernbert),
    "ALBERT": Kind("Albert", partial(trained, "AlbertTokenizer"), options={"embedding_size": 8}),
    "BigBird": Kind("BigBird", partial(trained, "BigBirdTokenizer")),
    "Longformer": Kind(
        "Longformer", partial(trained, "RobertaTokenizer"), options={**positions, "attention_window": [8]}
    ),
    "GPT-2": Kind("GPT2", partial(trained, "GPT2Tokenizer")),
    "Llama-2": Kind("Llama", partial(byte_fallback, "LlamaTokenizer"), options=heads),
    "Llama-3": Kind("Llama", llama_3, spaces=True, options=heads),
    "Qwen-2": Kind("Qwen2", partial(trained, "Qwen2Tokenizer"), spaces=True, options=heads),
    "Qwen-3": Kind("Qwen3", partial(trained, "Qwen2Tokenizer"), spaces=True, options=heads),
    "Mistral": Kind("Mistral", mistral, options=heads),
    "Gemma": Kind("Gemma", partial(byte_fallback, "GemmaTokenizer"), spaces=True, options=heads),
    "BLOOM": Kind(
        "Bloom",
        partial(split_bytes, BLOOM, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"),
        spaces=True,
    ),
    "T5": Kind("T5", partial(trained, "T5Tokenizer"), options={"d_kv": 8, "d_ff": 32}, encoder="T5EncoderModel"),
    "mT5": Kind("MT5", "T5Tokenizer", file="spiece.model", options={"d_kv": 8, "d_ff": 32}, encoder="MT5EncoderModel"),
    "XLNet": Kind("XLNet", partial(trained, "XLNetTokenizer"), options={"d_inner": 32, "d_head": 8}),
    "RemBERT": Kind(
        "RemBert",
        partial(trained, "RemBertTokenizer"),
        options={"input_embedding_size": 8, "output_embedding_size": 8},
    ),
    "EuroBERT": Kind("EuroBert", llama_3, spaces=True, options=heads),
}

# of each way to see words one in the default suite; the others are slow together
QUICK = {"BERT", "RoBERTa", "Llama-3", "DeBERTa-v3"}
SLOW = {"XLM-R", "ModernBERT", "Llama-2", "BLOOM"}
MARKS = {**dict.fromkeys(KINDS, pytest.mark.long), **dict.fromkeys(SLOW, pytest.mark.slow), **dict.fromkeys(QUICK, ())}
kinds = pytest.mark.parametrize("kind", [pytest.param(name, marks=marks) for name, marks in MARKS.items()])
# where a run of marks becomes a sub-word that goes over the ends of words, which can belong to one of them alone
RUNS_OF_MARKS = {("BLOOM", ", , , . . . - - -")}


def write_tokenizer(name, folder):
    """The files of a tokenizer as they are on the Hub, and a configuration that says which model they are of."""
    import transformers

    kind = KINDS[name]
    if kind.file:
        sentence_pieces(folder, kind)
    else:
        kind.tokenizer().save_pretrained(folder)
    model_type = getattr(transformers, f"{kind.model}Config").model_type
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def built(name, folder) -> Path:
    """The folder of a model of a kind: tokenizer, configuration, weights at random."""
    import torch
    import transformers

    kind = KINDS[name]
    folder.mkdir()
    write_tokenizer(name, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "initializer_range": 0.5,  # so that not all words get one label
        "initializer_factor": 3.0,
    }
    special = {
        f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos", "cls", "sep")
    }
    config = getattr(transformers, f"{kind.model}Config")(**{**sizes, **special, **kind.options})
    torch.manual_seed(0)
    encoder = getattr(transformers, kind.encoder or "AutoModel")
    model = encoder(config) if kind.encoder else encoder.from_config(config)
    model.save_pretrained(folder)
    return folder


def columns(sentences) -> str:
    return "".join("".join(f"{word} {label}\n" for word, label in rows) + "\n" for rows in sentences)


@kinds
def test_words_have_the_ids_of_the_text_that_they_make(kind, tmp_path, caplog):
    import transformers

    path = str(tmp_path)
    write_tokenizer(kind, tmp_path)
    with caplog.at_level(logging.WARNING, "ner_lightning"):
        tokenizer = load_tokenizer(path)
    assert not caplog.records
    encoder = Encoder(tokenizer, labels=LABELS, max_seq_length=400)
    for words in WORDS:
        text = " ".join(words)
        columns = columns_of(encoder.encode([words]))
        assert sorted(index for index in columns["word_index"][0] if index >= 0) == list(range(len(words)))
        if (kind, text) not in RUNS_OF_MARKS:
            assert columns["input_ids"] == [tokenizer(text).input_ids], text
    if KINDS[kind].spaces:  # what is exported is what came
        plain = transformers.AutoTokenizer.from_pretrained(path)
        assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()


def with_marks(text, end):
    """Where a word ends as it was written: the pipeline leaves out a mark at its end that the tokenizer drops."""
    while end < len(text) and unicodedata.category(text[end]) == "Mn":
        end += 1
    return end


@kinds
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_a_kind_is_trained_scored_exported_and_used_as_the_card_says(kind, tmp_path, caches, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = built(kind, tmp_path / "encoder")
    labels = iter(LABELS * 1000)
    Path("corpus.conll").write_text(columns([(word, next(labels)) for word in words] for words in WORDS))
    files = [f"--data.{split}_file=corpus.conll" for split in ("train", "validation", "test")]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    options = [f"--model.model_name_or_path={model}", "--data.scheme=IOB2", "--data.batch_size=24"]
    options.append("--model.decoding=argmax")  # as the code of the card decodes
    assert main(["fit", *files, *options, "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", *quiet]) == 0
    assert main(["test", *quiet]) == 0
    assert main(["export", "--output=exported"]) == 0
    assert "lacks weights" not in capsys.readouterr().err
    tested = json.loads(Path("exported/scores.json").read_text())
    assert tested["splits"], "the exported folder has the scores"
    code = re.search("```python\n(.*?)```", Path("exported/README.md").read_text(), re.DOTALL)[1]
    assert ('aggregation_strategy="first"' in code) == KINDS[kind].marks
    monkeypatch.chdir("exported")  # where the code of the card is run
    tagger = {}
    exec(code, tagger)
    capsys.readouterr()
    if KINDS[kind].marks:
        Path("notes.txt").write_text(SENTENCES)
        predict(["notes.txt"], model="../runs", output="out.jsonl")
        rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
        expected = [[(entity["type"], entity["start"], entity["end"]) for entity in row["entities"]] for row in rows]
        found = [
            [(entity["entity_group"], entity["start"], with_marks(text, entity["end"])) for entity in entities]
            for text, entities in zip(SENTENCES.splitlines(), tagger["tagger"](SENTENCES.splitlines()), strict=True)
        ]
        assert found == expected
        assert sum(map(len, expected)) > len(expected)
        return
    predict(["../corpus.conll"], model="../runs", output="out.conll")
    blocks = Path("out.conll").read_text().strip().split("\n\n")
    expected = [[line.split(" ")[-1] for line in block.split("\n")] for block in blocks]
    assert len({label for row in expected for label in row}) > 2
    own = re.search(r'^text = "(.*)"  #', code, re.MULTILINE)[1]
    for words, labels in zip(WORDS, expected, strict=True):
        text = " ".join(words)
        if (kind, text) in RUNS_OF_MARKS:
            continue
        names = {}
        exec(code.replace(json.dumps(own), repr(text)), names)
        found = [names["labels"].get(number) for number in range(len(words))]
        assert found == labels, text
