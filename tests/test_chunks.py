"""Chunks as batches: each word once, batches that are full, and nothing for Lightning to walk through."""

import pytest
import torch
from conftest import tiny_tokenizer
from lightning.pytorch.utilities import move_data_to_device

from ner_lightning.chunks import ChunkCollator, EncodedChunk
from ner_lightning.encoding import Encoder
from ner_lightning.predict_file import Chunk, Row


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny_tokenizer(), labels=["O", "B-PER"], max_seq_length=16)


def texts(*texts):
    return Chunk(3, [Row(text, [], {}) for text in texts], [])


def words(*sentences):
    return Chunk(3, [Row(None, sentence.split(), {}) for sentence in sentences], [])


SENTENCES = ["Mira left", "", "the cup " * 12, "Toll", "Edda Voss won"]


@pytest.mark.parametrize("make", [texts, words])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_hold_each_word_of_the_chunk_once(encoder, make, batch_size):
    encoded, batches = ChunkCollator(encoder, batch_size=batch_size, multiple=1)(make(*SENTENCES))
    index = torch.cat([batch["word_index"][batch["word_index"] >= 0] for batch in batches])
    assert sorted(index.tolist()) == list(range(30))
    assert encoded.num_words == 30
    assert all(batch["num_words"] == 30 for batch in batches)
    sizes = [len(batch["input_ids"]) for batch in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    lengths = [length for batch in batches for length in batch["attention_mask"].sum(1).tolist()]
    assert lengths == sorted(lengths, reverse=True)


def test_spans_are_those_of_texts_alone(encoder):
    collate = ChunkCollator(encoder, batch_size=2, multiple=1)
    spans = collate(texts(*SENTENCES))[0].spans
    assert [len(found) for found in spans] == [2, 0, 24, 1, 3]
    assert collate(words(*SENTENCES))[0].spans is None


@pytest.mark.parametrize("chunk", [texts("", " "), words("")])
def test_rows_without_words_give_no_batch(encoder, chunk):
    encoded, batches = ChunkCollator(encoder, batch_size=2, multiple=1)(chunk)
    assert (encoded.num_words, batches) == (0, [])


def test_the_way_to_a_device_leaves_the_rows_alone(encoder):
    item = ChunkCollator(encoder, batch_size=2, multiple=1)(texts("Mira left"))
    moved = move_data_to_device(item, torch.device("meta"))
    assert moved[0] is item[0]
    assert isinstance(moved[0], EncodedChunk)
    assert moved[1][0]["input_ids"].device.type == "meta"
