"""What more data would bring: the shares that are trained on, the curve through their scores, and what it says."""

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ner_lightning import learning_curve as module
from ner_lightning import seeds
from ner_lightning.__main__ import main
from ner_lightning.corpus import load_corpus
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.reports.curve import _power_law, as_svg, fit, sentence

SHARES = (0.1, 0.25, 0.5, 1.0)


def rows(documents):
    return [
        {"tokens": [f"w{number}"], "ner_tags": ["B-PER"]} | ({} if document is None else {"document_id": document})
        for number, document in enumerate(documents)
    ]


def words(given, **options):
    return [row["tokens"][0] for row in load_corpus(rows={"train": given}, **options).splits["train"]]


def test_a_smaller_share_is_a_part_of_a_larger_one_and_whole_documents():
    given = rows([number // 5 for number in range(100)])
    shares = [words(given, train_fraction=share, seed=3) for share in SHARES]
    assert [len(share) for share in shares] == [10, 25, 50, 100]
    for small, large in pairwise(shares):
        assert set(small) < set(large)
        assert small == sorted(small, key=lambda word: int(word[1:]))  # in the order of the file
        documents = [int(word[1:]) // 5 for word in small]
        assert all(documents.count(document) == 5 for document in documents)
    assert words(given, train_fraction=0.1, seed=4) != shares[0]
    assert words(given[:3], train_fraction=0.001, seed=0)  # never nothing


def test_without_documents_sentences_are_drawn():
    drawn = words(rows([None] * 40), train_fraction=0.25, seed=1)
    assert len(drawn) == 10
    assert len({int(word[1:]) // 10 for word in drawn}) > 1


def test_labels_and_validation_are_those_of_the_whole_data():
    given = [{"tokens": ["a"], "ner_tags": [f"B-T{number}"]} for number in range(20)]
    whole, part = (
        load_corpus(rows={"train": given}, validation_split=0.2, train_fraction=share, seed=0) for share in (1.0, 0.1)
    )
    assert whole.labels == part.labels
    assert whole.splits["validation"]["tags"][:] == part.splits["validation"]["tags"][:]
    assert len(part.splits["train"]) == 2


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_no_share_is_refused(share):
    with pytest.raises(InputError, match=rf"--data.train_fraction={share}: give a share above 0 and up to 1"):
        TokenClassificationDataModule(train_fraction=share)


def test_drawn_sentences_are_no_neighbours():
    with pytest.raises(InputError, match=r"--data.context=file and --data.train_fraction: where sentences are drawn"):
        TokenClassificationDataModule(context="file", train_fraction=0.5)


def test_the_power_law_is_the_best_there_is():
    optimize = pytest.importorskip("scipy.optimize")  # which seqeval brings
    generator = np.random.default_rng(0)
    shares = np.array(SHARES)
    errors = 0.08 + 0.05 * shares**-0.5 + generator.normal(0, 0.004, (20, 4))
    for error, *found in zip(errors, *_power_law(shares, errors), strict=True):
        law = lambda n, floor, size, rate: floor + size * n**-rate  # noqa: E731
        best, _ = optimize.curve_fit(law, shares, error, p0=found, bounds=([0, 0, 0.05], [1, 1, 2]))
        misses = [((law(shares, *each) - error) ** 2).sum() for each in (found, best)]
        assert misses[0] == pytest.approx(misses[1], abs=1e-7)  # the rate is one of a grid


def curves(seeds, *, sd=0.003, size=0.05, shares=SHARES, generator=None):
    generator = generator or np.random.default_rng(0)
    return {
        share: {seed: {"f1": 1 - 0.08 - size * share**-0.5 + generator.normal(0, sd)} for seed in range(seeds)}
        for share in shares
    }


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_the_gain(seeds):
    generator = np.random.default_rng(1)
    gain = 0.05 * (1 - 2**-0.5)
    found = [fit(curves(seeds, generator=generator)) for _ in range(60)]
    assert np.mean([each.low <= gain <= each.high for each in found]) >= 0.85
    assert np.mean([each.high - each.low for each in found]) < 0.008
    assert np.mean([each.gain for each in found]) == pytest.approx(gain, abs=0.003)


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (curves(3, sd=0), "twice the data would bring about +1.5 F1 (95 %: +1.5 to +1.5)"),
        (curves(3, sd=0, shares=(0.5, 1.0)), "do not rely on it: 2 shares are few for a curve of three numbers"),
        (curves(1), "do not rely on it: one seed says nothing of others"),
        (curves(2), "do not rely on it: 2 seeds say little of others"),
        (curves(3, size=-0.05), "do not rely on it: the scores do not rise with the data"),
        ({share: {seed: {"f1": share / 2} for seed in range(3)} for share in SHARES}, "the curve misses it by +"),
        ({0.5: {0: {"f1": 0.5}}, 1.0: {1: {"f1": 0.6}}}, "cannot be told\ndo not rely on it: no seed has been"),
    ],
)
def test_the_sentence_says_whether_to_rely_on_it(scores, told):
    said = sentence(fit(scores))
    assert told in said
    assert ("rely" in said) == ("rely" in told or "misses" in told)


def test_the_figure_holds_all_there_is():
    scores = {
        share: {seed: values | {"f1_<b>": 0.5} for seed, values in runs.items()} for share, runs in curves(3).items()
    }
    root = ET.fromstring(as_svg(scores, fit(scores)))
    svg = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{svg}circle")) == 12
    texts = [each.text for each in root.findall(f"{svg}text")]
    assert {"<b>", "all", "0.1", "0.25", "0.5", "1", "2", "share of the training data"} <= set(texts)
    numbers = [
        float(n) for line in root.findall(f"{svg}polyline") for at in line.get("points").split() for n in at.split(",")
    ]
    assert 0 <= min(numbers) < max(numbers) <= 640


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Stand in for the trainings: what each is called with, their exit codes, 0 at the end, and what they score."""
    monkeypatch.chdir(tmp_path)
    calls, codes, scores = [], [], {"f1": 0.5, "f1_PER": 0.6}
    config = {"seed_everything": 42, "data": {"train_fraction": 1.0}, "trainer": {"default_root_dir": "runs"}}

    def run(title, args):
        calls.append(args)
        code = codes.pop(0) if codes else 0
        if code != 2:
            Path(next(arg for arg in args if "root_dir" in arg).partition("=")[2], "version_0").mkdir(parents=True)
        return code

    def read_runs(folder):
        return [SimpleNamespace(seed=int(path.name[5:]), validation=scores) for path in folder.glob("seed_*")]

    monkeypatch.setattr(module, "config_of_fit", lambda fit_options, command: json.loads(json.dumps(config)))
    monkeypatch.setattr(seeds, "run_command", run)
    monkeypatch.setattr(seeds, "read_runs", read_runs)
    return SimpleNamespace(calls=calls, codes=codes, scores=scores, config=config)


def test_each_share_is_trained_with_each_seed_and_nothing_twice(child, capsys):
    command = ["learning-curve", "--seeds=2", "--fractions=1,0.5", "--config=x"]
    assert main(command) == 0
    assert child.calls == [
        ["fit", "--config=x", f"--data.train_fraction={share}", f"--seed_everything={seed}",
         f"--trainer.default_root_dir=runs/curve_0/fraction_{share}/seed_{seed}"]
        for share in ("0.5", "1") for seed in (42, 43)
    ]  # fmt: skip
    out = capsys.readouterr().out
    table = [line.split() for line in out.splitlines()[1:5]]
    assert [table[0], *table[2:]] == [
        ["fraction", "seeds", "val_f1", "PER"],
        ["0.5", "2", "50.00", "+-", "0.00", "60.00", "+-", "0.00"],
        ["1", "2", "50.00", "+-", "0.00", "60.00", "+-", "0.00"],
    ]
    assert "twice the data would bring about +0.0 F1 (95 %: +0.0 to +0.0)\ndo not rely on it: 2 shares" in out
    assert out.endswith("written     runs/curve_0/curve.json, runs/curve_0/curve.svg\n")
    known = json.loads(Path("runs/curve_0/curve.json").read_text())
    assert known["fractions"] == [
        {"fraction": share, "seeds": {"42": child.scores, "43": child.scores}} for share in (0.5, 1.0)
    ]
    assert known["twice"]["gain"] == 0
    ET.parse("runs/curve_0/curve.svg")
    child.calls.clear()
    assert main([*command[:2], "--fractions=0.5,0.7,1", "--config=x"]) == 0
    assert len(child.calls) == 2
    assert [path.name for path in Path("runs").iterdir()] == ["curve_0"]


def test_another_command_says_what_it_is_asked_and_keeps_the_scores_of_those_before(child, monkeypatch):
    assert main(["learning-curve", "--seeds=2", "--fractions=0.5,0.7,1", "--config=x"]) == 0
    assert main(["learning-curve", "--seeds=1", "--fractions=0.2,1", "--config=x"]) == 0
    known = json.loads(Path("runs/curve_0/curve.json").read_text())
    shares = {each["fraction"]: sorted(each["seeds"]) for each in known["fractions"]}
    assert shares == {0.2: ["42"], 0.5: ["42", "43"], 0.7: ["42", "43"], 1.0: ["42", "43"]}
    assert known["twice"]["of"] == {"0.2": [42], "1.0": [42]}
    monkeypatch.setattr(module, "_show", lambda *_: None)  # as if the next one was killed before it writes
    assert main(["learning-curve", "--seeds=1", "--fractions=0.2,1", "--config=x"]) == 0
    assert json.loads(Path("runs/curve_0/curve.json").read_text()) == known


def test_what_fails_is_told_and_tried_again(child, capsys):
    command = ["learning-curve", "--seeds=2", "--fractions=0.5,1", "--config=x"]
    child.codes += [0, 1]
    assert main(command) == 1
    assert capsys.readouterr().err == "failed: fit of seed 43 on 0.5 (see above; the same command tries again)\n"


def test_what_is_refused_once_is_not_tried_with_other_shares(child):
    child.codes += [2]
    assert main(["learning-curve", "--config=x"]) == 1
    assert len(child.calls) == 1
    assert not list(Path("runs").iterdir())


def test_without_f1_there_is_no_curve(child, capsys):
    del child.scores["f1"]
    assert main(["learning-curve", "--config=x", "--seeds=2"]) == 1
    told = "error: a learning curve is one of F1 on validation: give validation data with entities\n"
    assert capsys.readouterr().err == told
    assert len(child.calls) == 2


def test_the_share_is_not_another_option(child, capsys):
    child.config["data"]["train_fraction"] = 0.5
    assert main(["learning-curve", "--config=x"]) == 2
    assert "error: --data.train_fraction is what the curve varies: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("fractions", ["", "1", "0.5,0.5", "0,1", "0.5,2", "some", "nan,1"])
def test_no_shares_are_refused(fractions, capsys):
    assert main(["learning-curve", f"--fractions={fractions}", "--config=x"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --fractions={fractions}: give two or more above 0 and up to 1")


@pytest.mark.long
def test_from_training_to_the_sentence(conll_files, tiny_model, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = [f"--data.{split}_file={conll_files / f'{split}.conll'}" for split in ("train", "validation")]
    few = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", f"--model.model_name_or_path={tiny_model}"]
    command = ["learning-curve", "--seeds=2", "--fractions=0.5,1", *data, *few]
    assert main(command) == 0
    out = capfd.readouterr().out
    assert out.count("(2 sentences)") > 2  # a document of two
    assert "twice the data would bring about" in out
    assert len(list(Path("runs/curve_0").glob("fraction_*/seed_*/version_0/checkpoints/best.ckpt"))) == 4
    assert main(command) == 0
    assert "fit" not in capfd.readouterr().out
