"""Each benchmark runs once with little work, and its table has its rows; never a time."""

import sys

import pytest

from benchmarks import growth, measuring, prediction, startup, training

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a benchmark; gives what it wrote."""

    def run(benchmark, *arguments):
        name = benchmark.__name__.rpartition(".")[2]
        readme = tmp_path / "README.md"
        readme.write_text(f"# Benchmarks\n\n## Old\n\n<!-- {name}: begin -->\nold\n<!-- {name}: end -->\nBelow.\n")
        monkeypatch.setattr(sys, "argv", [name, "--quick", f"--readme={readme}", *arguments])
        benchmark.main()
        text = readme.read_text()
        assert text.startswith("# Benchmarks\n\n## Old\n\n")
        assert text.endswith("\nBelow.\n")
        assert "\nold\n" not in text
        assert f"`python -m benchmarks.{name} --quick" in text
        return text

    return run


def rows(text):
    """Cells behind the first one, by that."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in reversed(cells)}  # of tables with the same rows, those of the first


@pytest.mark.long
def test_training_stands_beside_its_peers_and_its_variants(run):
    pytest.importorskip("accelerate")
    variants = ("--ours=one=--trainer.precision=32-true", "--ours=two=--trainer.precision=32-true --model.onednn=true")
    text = run(training, "--steps=6", *variants, "--peers", "tutorial", "--peak_tflops=1")
    found = rows(text)
    assert found[""] == ["one", "two", "Trainer, tutorials"]
    for name in (*training._NAMES.values(), "step, ms", "data", "forward", "backward", "clip", "optimizer", "other"):
        assert "-" not in found[name.strip()], name
    assert found["precision"][0] == "32-true"
    assert len(found["one, 32-true"]) == 7
    assert text.count("the step against its matrix products alone") == 1
    assert text.count("weight gradient") >= 3
    assert "Weights of `two` after training differ from those of `one` by at most 0.0e+00" in text


@pytest.mark.long
def test_prediction_finds_what_the_pipeline_finds(run):
    found = rows(run(prediction))
    assert {"Tagger", "predict"} < found.keys()
    entities = {
        name: cells[-2:] for name, cells in found.items() if name in ("Tagger", "predict") or "batches of" in name
    }
    assert len(entities) == 3
    assert {differing for _, differing in entities.values()} == {"0"}


@pytest.mark.benchmarks
def test_growth_is_measured_at_each_size(run):
    found = rows(run(growth))
    assert found[""] == ["100 sentences", "300 sentences"]
    for work in growth._WORKS.values():
        assert len(found[f"{work}, ms"]) == len(found[f"{work}, bytes"]) == 2


@pytest.mark.benchmarks
def test_start_up_stands_beside_imports(run):
    found = rows(run(startup))
    assert found["fit to its first step, warm cache"][2] == "imports of fit"
    assert found["fit --help"][2] == "import lightning.pytorch.cli"
    assert found["Tagger.load"][3] in ("yes", "no")
    assert found["predict, one sentence"][2] == "imports of Tagger"


@pytest.mark.long
def test_a_process_that_fails_shows_its_last_lines(tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)benchmarks\.inputs .*ended with 1:.*KeyError: 'files'"):
        measuring.fresh_process("benchmarks.inputs", {}, folder=tmp_path)
