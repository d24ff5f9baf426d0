"""Sets of runs: what belongs together, which numbers stand for them, and which tests can be compared."""

import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from ner_lightning.errors import InputError
from ner_lightning.reports.runs import differences, differing, group, one_set, other_data, read_runs
from ner_lightning.scores import beside

from .conftest import f1


def drawn(seed, *, units=40, skill=0.8):
    """Counts of two types in some documents; the gold entities do not depend on the seed."""
    generator, gold = np.random.default_rng(seed), np.random.default_rng(99).integers(1, 9, size=(2, units))
    counts = {}
    for name, there in zip(("LOC", "PER"), gold, strict=True):
        right = generator.binomial(there, skill)
        counts[name] = np.stack([right, right + generator.binomial(there, 1 - skill), there], axis=1)
    return counts


def test_runs_that_differ_in_their_seed_alone_are_one_set_with_its_mean_and_deviation(make_run):
    val, tests = [0.91, 0.95, 0.9], [drawn(seed) for seed in range(3)]
    for seed in range(3):
        make_run(f"runs/seeds_0/seed_{seed}/version_0", seed=seed, val=val[seed], counts=tests[seed])
    make_run("runs/version_0", val=0.99, config={"model": {"learning_rate": 0.1}})
    first, second = group(read_runs("runs"), place=Path("runs"))
    assert (first.name, second.name) == ("version_0", "seeds_0")  # the best first
    assert [run.seed for run in second.runs] == [0, 1, 2]
    assert second.validation == pytest.approx((statistics.mean(val), statistics.stdev(val), 3))
    scores = [f1([*each["LOC"], *each["PER"]]) for each in tests]
    assert second.test == pytest.approx((statistics.mean(scores), statistics.stdev(scores), 3))
    assert first.validation == (0.99, None, 1)
    assert first.test is first.interval is None
    assert differing([first, second]) == [{"model.learning_rate": "0.1"}, {}]


def test_the_interval_of_a_mean_and_of_a_difference_are_those_of_plain_loops(make_run):
    sets = {name: [drawn(seed, skill=skill) for seed in seeds] for name, seeds, skill in (
        ("a", (1, 2, 3), 0.7), ("b", (4, 5), 0.75))}  # fmt: skip
    for name, tests in sets.items():
        for seed, counts in enumerate(tests):
            make_run(f"{name}/version_{seed}", seed=seed, counts=counts)
    a, b = one_set("a"), one_set("b")
    generator = np.random.default_rng(0)
    means, by_name = [], {name: [] for name in ("f1", "f1_LOC", "f1_PER")}
    for _ in range(1000):
        units = generator.integers(40, size=40)
        score = {}
        for name, tests in sets.items():
            of_type = {f"f1_{type_}": statistics.mean(f1(c[type_][units]) for c in tests) for type_ in ("LOC", "PER")}
            whole = statistics.mean(f1([c["LOC"][units], c["PER"][units]]) for c in tests)
            score[name] = {"f1": whole, **of_type}
        means.append(score["a"]["f1"])
        for name, values in by_name.items():
            values.append(score["b"][name] - score["a"][name])
    assert a.interval == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    found = differences(b, a)
    assert set(found) == set(by_name)
    for name, values in by_name.items():
        assert found[name].interval == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert found["f1"].value == pytest.approx(b.test.mean - a.test.mean)


def test_a_type_that_one_of_them_never_found_has_zeros_there(make_run):
    one, other = drawn(1), drawn(2)
    make_run("a", counts={"PER": one["PER"]})
    nothing = one["PER"] * 0
    make_run("b", counts={"PER": other["PER"], "NEW": nothing + np.array([0, 1, 0])})
    found = differences(one_set("b"), one_set("a"))
    assert found["f1_NEW"] == (0, (0, 0))
    assert found["f1"].value < found["f1_PER"].value


def test_a_run_that_went_on_from_another_one_takes_its_place(make_run):
    for number, val in enumerate((0.5, 0.9)):
        make_run(f"runs/version_{number}", val=val, config={"ckpt_path": "last" if number else None})
    (run,) = read_runs("runs")
    assert run.folder == Path("runs/version_1")
    assert [run.folder for run in read_runs("runs/version_0")] == [Path("runs/version_0")]


def test_a_checkpoint_and_its_run_are_the_same(make_run):
    folder = make_run("runs/version_0", counts=drawn(1))
    (of_run,), (alone,) = read_runs(folder), read_runs(f"{folder}/checkpoints/best.ckpt")
    assert of_run.checkpoint == alone.checkpoint


def test_a_checkpoint_that_cannot_be_read_is_left_out_of_several(make_run, caplog):
    make_run("runs/version_0")
    broken = Path(make_run("runs/version_1")) / "checkpoints/best.ckpt"
    broken.write_bytes(b"half")
    assert len(read_runs("runs")) == 1
    assert "left out: runs/version_1/checkpoints/best.ckpt: not a whole checkpoint" in caplog.text
    with pytest.raises(InputError, match="not a whole checkpoint"):
        read_runs("runs/version_1")


def test_where_there_is_no_run_it_is_said(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; give that of a run"):
        read_runs("nowhere")
    with pytest.raises(InputError, match=r"no best.ckpt and no last.ckpt in this folder"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match="expected a checkpoint, found no such file"):
        read_runs("best.ckpt")


def test_runs_of_different_recipes_are_no_set(make_run):
    make_run("runs/version_0")
    make_run("runs/version_1", config={"model": {"learning_rate": 0.1}})
    with pytest.raises(
        InputError, match=r"runs: its runs differ in more than their seed \(model.learning_rate\): give"
    ):
        one_set("runs")


def test_tests_on_different_data_cannot_be_compared(make_run):
    counts = drawn(1)
    fewer = {name: rows[:-1] for name, rows in counts.items()}
    moved = {name: rows[::-1] for name, rows in counts.items()}
    make_run("a", counts=counts)
    for name, told in {
        "file": "were tested on different data, other.conll and test.conll",
        "units": "were tested on different data: test.conll had 39 documents, and 40",
        "gold": "were tested on different data: the entities of test.conll have changed",
    }.items():
        other = {"file": counts, "units": fewer, "gold": moved}[name]
        make_run(name, counts=other, test_file="x/other.conll" if name == "file" else "x/test.conll", seed=7)
        runs = [*read_runs("a"), *read_runs(name)]
        assert other_data(runs) == f"{name} and a {told}"
        make_run(f"both_{name}/version_0", counts=counts)
        shutil.copytree(name, f"both_{name}/version_1")
        assert one_set(f"both_{name}").test is None  # no mean of what cannot be compared


def test_a_test_of_former_weights_is_none_of_the_run(make_run):
    record = beside(Path(make_run("a", counts=drawn(1))) / "checkpoints/best.ckpt")
    make_run("b", seed=7)
    shutil.copy(record, beside(Path("b/checkpoints/best.ckpt")))
    (run,) = read_runs("b")
    assert run.test is None
    assert run.counts == {}
