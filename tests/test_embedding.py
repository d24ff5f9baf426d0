"""Training some rows of an embedding against training all of them with the same AdamW."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForTokenClassification, RobertaConfig, RobertaForTokenClassification

from ner_lightning.embedding import CompactEmbedding, compact
from ner_lightning.errors import InputError

IDS = [7, 0, 3, 12]  # with the padding, in any order
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def make(vocabulary=20, model=BertForTokenClassification, config=BertConfig):
    torch.manual_seed(0)
    return model(config(vocab_size=vocabulary, num_labels=3, **SMALL)).eval()


def optimizer_of(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def train(model, optimizer, schedule, steps):
    """Steps on random sub-words of IDS; without dropout, which would draw the same numbers, but why ask."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        input_ids = torch.tensor(IDS)[torch.randint(len(IDS), (2, 5), generator=generator)]
        labels = torch.randint(3, (2, 5), generator=generator)
        model.get_input_embeddings().train()
        logits = model(input_ids).logits
        model.get_input_embeddings().eval()
        functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def both(**kind):
    whole, small = make(**kind), make(**kind)
    embedding = compact(small, torch.tensor(IDS), within=small)
    of_whole, of_small = optimizer_of(whole), optimizer_of(small)
    embedding.attach(of_small[0])
    return (whole, *of_whole), (small, *of_small)


def assert_equal_states(one, other):
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    "kind", [{}, {"model": RobertaForTokenClassification, "config": RobertaConfig}], ids=["bert", "roberta"]
)
def test_weights_and_optimizer_are_those_of_the_whole_table(kind):
    whole, small = both(**kind)
    train(*whole, range(6))
    train(*small, range(6))
    assert_equal_states(whole[0].state_dict(), small[0].state_dict())
    one, other = whole[1].state_dict(), small[1].state_dict()
    assert one["param_groups"] == other["param_groups"]
    for number in one["state"]:
        assert_equal_states(one["state"][number], other["state"][number])


def test_used_rows_are_equal_to_the_last_bit():
    whole, small = both()
    train(*whole, range(6))
    train(*small, range(6))
    dense, rows = whole[0].get_input_embeddings().weight, small[0].get_input_embeddings().rows
    assert torch.equal(dense[IDS], rows)


def test_evaluation_reads_all_rows_as_they_are_after_the_last_step():
    whole, small = both()
    every = torch.arange(20)[None]
    for steps in (range(3), range(3, 5)):  # what is read between the steps changes nothing
        train(*whole, steps)
        train(*small, steps)
        torch.testing.assert_close(small[0](every).logits, whole[0](every).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("resumed_with", ["whole", "compact"])
def test_a_run_goes_on_from_the_state_of_either_kind(resumed_with):
    whole, small = both()
    train(*whole, range(6))
    train(*small, range(3))
    saved = [part.state_dict() for part in small]
    again = both()[0 if resumed_with == "whole" else 1]
    for part, state in zip(again, saved, strict=True):
        part.load_state_dict(state)
    train(*again, range(3, 6))
    assert_equal_states(whole[0].state_dict(), again[0].state_dict())


def test_the_padding_row_is_not_trained():
    whole, small = both()
    train(*small, range(3))
    decayed = whole[0].get_input_embeddings().weight[0] * (1 - 0.01 * 0.1) * (1 - 0.005 * 0.1) * (1 - 0.01 / 3 * 0.1)
    torch.testing.assert_close(small[0].state_dict()["bert.embeddings.word_embeddings.weight"][0], decayed)


def test_the_whole_table_comes_back_as_an_ordinary_embedding():
    _, small = both()
    train(*small, range(3))
    state = small[0].state_dict()
    whole = small[0].get_input_embeddings().whole()
    assert (type(whole), whole.padding_idx, whole.weight.requires_grad) == (nn.Embedding, 0, True)
    assert torch.equal(whole.weight, state["bert.embeddings.word_embeddings.weight"])


def test_evaluation_reads_the_rows_that_are_there_whoever_changed_them():
    """As an average of weights does that is swapped in for a validation, and out again."""
    _, small = both()
    train(*small, range(3))
    embedding, every = small[0].get_input_embeddings(), torch.arange(20)
    before = embedding(every).clone()
    with torch.no_grad():
        embedding.rows += 1
        assert torch.equal(embedding(every)[IDS], before[IDS] + 1)
        embedding.rows -= 1
    torch.testing.assert_close(embedding(every), before)
    torch.testing.assert_close(embedding.whole().weight, before)


def test_a_step_without_a_gradient_lets_nothing_decay():
    whole, small = both()
    for _, optimizer, _ in (whole, small):
        optimizer.step()
    assert_equal_states(whole[0].state_dict(), small[0].state_dict())


def test_a_sub_word_that_the_training_data_does_not_have_is_named_with_the_option():
    _, small = both()
    small[0].train()
    with pytest.raises(InputError, match=r"that the training data does not: give --model\.compact_embedding=false"):
        small[0](torch.tensor([[7, 8]]))


def frozen(model):
    model.get_input_embeddings().requires_grad_(False)


def shared(model):
    model.classifier.weight = model.get_input_embeddings().weight


def sparse(model):
    model.get_input_embeddings().sparse = True


def of_another_kind(model):
    class Scaled(nn.Embedding):
        pass

    model.set_input_embeddings(Scaled(20, 16))


@pytest.mark.parametrize("change", [frozen, shared, sparse, of_another_kind])
def test_other_tables_stay_as_they_are(change):
    model = make()
    change(model)
    before = model.get_input_embeddings()
    assert compact(model, torch.tensor(IDS), within=model) is None
    assert model.get_input_embeddings() is before


def test_a_table_of_which_nearly_all_is_used_stays_as_it_is():
    model = make()
    assert compact(model, torch.arange(19), within=model) is None
    assert not isinstance(model.get_input_embeddings(), CompactEmbedding)


def test_a_table_that_another_part_shares_stays_as_it_is():
    model, other = make(), nn.Linear(16, 20, bias=False)
    other.weight = model.get_input_embeddings().weight
    assert compact(model, torch.tensor(IDS), within=nn.ModuleList([model, other])) is None
