"""A short run of the fuzzer, the same files each time."""

import random

import pytest

from tests.fuzz.fuzz import SEEDS, bytes_changed, check, mutated, seeds_of


@pytest.mark.parametrize("target", SEEDS)
def test_no_file_ends_in_a_traceback(target, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    chance = random.Random(target)
    seeds = seeds_of(target)
    for content in seeds:
        check(target, content, tmp_path)
    for _ in range(4 if target == "config" else 60):
        data = chance.choice(seeds)
        for _ in range(chance.choice([1, 1, 2, 4])):
            data = mutated(data, chance, lambda part: bytes_changed(part, chance))
        check(target, data, tmp_path)
