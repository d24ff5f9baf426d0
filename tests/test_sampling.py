"""LengthBatchSampler: which samples, in which order, on which rank, and how it goes on after a stop."""

import random
from collections import Counter
from itertools import chain, islice
from operator import itemgetter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ner_lightning.errors import InputError
from ner_lightning.sampling import LengthBatchSampler

LENGTHS = random.Random(0).choices(range(1, 61), k=230)

lengths = st.lists(st.integers(0, 50), max_size=120)
batch_sizes = st.integers(1, 9)
limits = st.one_of(
    st.fixed_dictionaries({"batch_size": batch_sizes}),
    st.fixed_dictionaries({"max_tokens": st.integers(1, 200), "multiple": st.sampled_from([1, 8])}),
)
replicas = st.integers(1, 5)


def ranks(lengths, *, num_replicas, **options):
    return [
        list(LengthBatchSampler(lengths, num_replicas=num_replicas, rank=rank, **options))
        for rank in range(num_replicas)
    ]


def sampler(**options):
    limit = {} if "max_tokens" in options else {"batch_size": 8}
    return LengthBatchSampler(LENGTHS, **{**limit, "shuffle": True, "seed": 42} | options)


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, limit=limits, shuffle=st.booleans(), seed=st.integers(0, 2**32))
def test_one_rank_gets_every_sample_once(lengths, limit, shuffle, seed):
    batches = list(LengthBatchSampler(lengths, **limit, shuffle=shuffle, seed=seed))
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= limit.get("batch_size", 120) for batch in batches)


@settings(deadline=None, max_examples=200)
@given(lengths=lengths, max_tokens=st.integers(1, 200), multiple=st.sampled_from([1, 3, 8]), shuffle=st.booleans())
def test_no_batch_is_above_its_budget_unless_it_is_one_sample(lengths, max_tokens, multiple, shuffle):
    def padded(batch):
        longest = max(lengths[i] for i in batch)
        return len(batch) * next(n for n in range(0, 99, multiple) if n >= longest)

    batches = LengthBatchSampler(lengths, max_tokens=max_tokens, multiple=multiple, shuffle=shuffle)
    assert all(len(batch) == 1 or padded(batch) <= max_tokens for batch in batches)


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, limit=limits, num_replicas=replicas)
def test_each_epoch_has_the_same_number_of_batches_known_beforehand(lengths, limit, num_replicas):
    batches = LengthBatchSampler(lengths, **limit, shuffle=True, num_replicas=num_replicas)
    for epoch in range(4):
        batches.set_epoch(epoch)
        assert len(list(batches)) == len(batches)


def test_a_budget_is_used():
    used = [len(batch) * max(LENGTHS[i] for i in batch) for batch in sampler(max_tokens=200)]
    assert sum(used) / len(used) > 0.8 * 200


def test_samples_of_one_length_meet_others_in_the_next_epoch():
    batches = LengthBatchSampler([5] * 100, max_tokens=50, shuffle=True)
    first = set(map(frozenset, batches))
    batches.set_epoch(1)
    assert not first & set(map(frozenset, batches))


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, limit=limits, shuffle=st.booleans(), num_replicas=replicas)
def test_ranks_get_everything_between_them_in_equally_many_batches(lengths, limit, shuffle, num_replicas):
    options = {**limit, "shuffle": shuffle, "num_replicas": num_replicas}
    shares = ranks(lengths, **options)
    assert set(chain(*chain(*shares))) == set(range(len(lengths)))
    assert {len(share) for share in shares} == {len(LengthBatchSampler(lengths, **options))}


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, limit=limits, shuffle=st.booleans(), num_replicas=replicas)
def test_no_more_comes_again_than_evens_out_the_ranks(lengths, limit, shuffle, num_replicas):
    shares = ranks(lengths, num_replicas=num_replicas, shuffle=shuffle, **limit)
    times = Counter(tuple(batch) for share in shares for batch in share)
    assert sum(times.values()) - len(times) < num_replicas


def test_fewer_samples_than_ranks_still_give_each_rank_a_batch():
    assert ranks([3, 1], num_replicas=5, batch_size=1, shuffle=False) == [[[0]], [[1]], [[0]], [[1]], [[0]]]


def test_no_samples_give_no_batches():
    assert ranks([], num_replicas=2, batch_size=4, shuffle=True) == [[], []]


def test_evaluation_begins_with_the_longest():
    order = [LENGTHS[i] for batch in sampler(shuffle=False) for i in batch]
    assert order == sorted(LENGTHS, reverse=True)


def test_evaluation_keeps_its_order_from_epoch_to_epoch():
    batches = sampler(shuffle=False)
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) == first


def test_the_same_seed_and_epoch_give_the_same_order():
    torch.manual_seed(1)
    first = list(sampler())
    torch.manual_seed(2)
    assert list(sampler()) == first


def test_the_order_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(sampler())
    assert torch.equal(torch.get_rng_state(), before)


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = set()
    for seed, epoch in [(42, 0), (42, 1), (42, 2), (43, 0), (43, 1), (42 + 2**32, 0)]:
        batches = sampler(seed=seed)
        batches.set_epoch(epoch)
        orders.add(tuple(map(tuple, batches)))
    assert len(orders) >= 5  # seeds beyond 32 bits may coincide with smaller ones


def test_training_batches_are_not_in_order_of_length():
    longest = [max(LENGTHS[i] for i in batch) for batch in sampler()]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_buckets_pad_less_than_half_of_what_random_batches_pad():
    many = random.Random(1).choices(range(1, 61), k=5000)

    def padded(batches):
        return sum(max(many[i] for i in batch) - many[j] for batch in batches for j in batch)

    order = random.Random(2).sample(range(5000), 5000)
    at_random = [order[i : i + 8] for i in range(0, 5000, 8)]
    assert padded(LengthBatchSampler(many, batch_size=8, shuffle=True)) < padded(at_random) / 2


@settings(deadline=None, max_examples=60)
@given(data=st.data(), limit=limits, shuffle=st.booleans(), num_replicas=replicas)
def test_what_is_left_after_a_stop_is_what_a_resume_hands_out(data, limit, shuffle, num_replicas):
    rank = data.draw(st.integers(0, num_replicas - 1))
    options = {**limit, "shuffle": shuffle, "num_replicas": num_replicas, "rank": rank}
    stopped = sampler(**options)
    stopped.set_epoch(3)
    taken = data.draw(st.integers(0, len(stopped) - 1))
    iteration = iter(stopped)
    before = list(islice(iteration, taken))

    resumed = sampler(**options)
    resumed.load_state_dict(stopped.state_dict())
    after = list(resumed)

    whole = sampler(**options)
    whole.set_epoch(3)
    assert before + after == list(whole)


def resumed_at(position):
    batches = sampler()
    batches.load_state_dict(batches.state_dict() | {"epoch": 2, "position": position})
    return batches


def test_the_epoch_after_a_resumed_one_is_whole():
    batches = resumed_at(20)
    assert len(list(batches)) == len(batches) - 20
    batches.set_epoch(3)
    assert len(list(batches)) == len(batches)


def test_setting_the_epoch_of_the_loaded_state_keeps_the_position():
    batches = resumed_at(20)
    batches.set_epoch(2)
    assert len(list(batches)) == len(batches) - 20


def test_another_epoch_than_the_loaded_one_begins_at_its_first_batch():
    batches = resumed_at(20)
    batches.set_epoch(3)
    assert batches.state_dict()["position"] == 0
    assert len(list(batches)) == len(batches)


def test_an_iterator_that_is_never_used_does_not_take_the_position_away():
    batches = resumed_at(20)
    iter(batches)
    assert len(list(batches)) == len(batches) - 20


def test_the_state_counts_the_batches_handed_out():
    batches = sampler()
    iteration = iter(batches)
    next(iteration)
    next(iteration)
    assert batches.state_dict() == {
        "epoch": 0,
        "position": 2,
        "seed": 42,
        "max_tokens": None,
        "batch_size": 8,
        "num_replicas": 1,
        "samples": 230,
    }


def test_after_the_last_batch_the_state_is_the_start_of_the_next_epoch():
    batches = sampler()
    list(batches)
    state = batches.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("seed", "--seed_everything"),
        ("batch_size", "--data.batch_size"),
        ("num_replicas", "--trainer.devices"),
        ("samples", "--data.train_file"),
    ],
)
def test_a_state_of_another_order_is_refused(name, flag):
    batches = sampler()
    state = batches.state_dict(handed_out=2)
    now = state[name]
    with pytest.raises(InputError, match=rf"{name} must be {now + 1} as before, not {now}: change {flag}"):
        batches.load_state_dict(state | {name: now + 1})
    batches.load_state_dict(batches.state_dict() | {name: now + 1})  # at the start of an epoch nothing depends on it


def test_a_state_of_another_budget_is_refused():
    with pytest.raises(InputError, match=r"max_tokens must be 90 as before, not 80: change --data\.max_tokens"):
        sampler(max_tokens=80).load_state_dict(sampler(max_tokens=90).state_dict(handed_out=2))


def test_a_state_from_before_there_were_budgets_is_read():
    state = sampler().state_dict() | {"position": 3}
    del state["max_tokens"]
    batches = sampler()
    batches.load_state_dict(state)
    assert list(batches) == list(sampler())[3:]


@pytest.mark.parametrize("limit", [0, -1])
@pytest.mark.parametrize("name", ["batch_size", "max_tokens"])
def test_a_limit_below_one_is_refused(name, limit):
    with pytest.raises(InputError, match=f"{name} must be 1 or more, not {limit}: .*--data.{name}"):
        LengthBatchSampler(LENGTHS, **{name: limit}, shuffle=True)


@pytest.mark.parametrize("limits", [{}, {"batch_size": 3, "max_tokens": 99}])
def test_it_takes_one_limit(limits):
    with pytest.raises(InputError, match="give batch_size or max_tokens, one of them"):
        LengthBatchSampler(LENGTHS, **limits, shuffle=True)


class Rows(torch.utils.data.Dataset):
    """Rows by list of numbers, as a Hugging Face dataset gives them."""

    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, numbers):
        return {"number": numbers, "length": [LENGTHS[i] for i in numbers]}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_hands_out_the_batches_in_order(num_workers):
    batches = sampler()
    loader = DataLoader(
        Rows(), sampler=batches, batch_size=None, num_workers=num_workers, collate_fn=itemgetter("number")
    )
    assert len(loader) == len(batches)
    assert list(loader) == list(sampler())
