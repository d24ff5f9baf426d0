"""Whole runs through `main([...])`, and what each wrong input is answered."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback

from ner_lightning.cli import _new_version, main


@pytest.fixture
def run(tmp_path, monkeypatch, conll_files, tiny_model, capsys):
    """Run a subcommand on the invented corpus with the tiny model in an empty folder; gives (code, out, err)."""
    monkeypatch.chdir(tmp_path)
    standard = {
        "--data.train_file": conll_files / "train.conll",
        "--data.validation_file": conll_files / "validation.conll",
        "--data.test_file": conll_files / "test.conll",
        "--model.model_name_or_path": tiny_model,
    }

    def call(subcommand, *args, without=(), alone=False):
        fixed = [] if alone else [f"{name}={value}" for name, value in standard.items() if name not in without]
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        if subcommand == "fit":
            quiet.append("--trainer.log_every_n_steps=1")
        capsys.readouterr()
        code = main([subcommand, *fixed, *quiet, *map(str, args)])
        return code, *capsys.readouterr()

    return call


def fit(run, *args):
    code, out, err = run("fit", "--trainer.max_epochs=2", *args)
    assert code == 0, err
    return out


def error(result):
    """The sentence of an error: the last line, with no traceback before it."""
    code, _, err = result
    assert code == 1
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def test_fit_leaves_checkpoints_logs_and_config_and_says_what_comes_next(run):
    out = fit(run)
    folder = Path("runs/version_0")
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list(folder.glob("events.out.tfevents.*"))
    logged = set((folder / "metrics.csv").read_text().splitlines()[0].split(","))
    assert {"train_loss", "val_loss", "val_f1", "val_f1_PER", "val_precision", "val_recall", "val_accuracy"} <= logged
    assert any(name.startswith("lr-AdamW") for name in logged)
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert "best        val_f1" in out
    assert "words/s" in out
    assert "python -m ner_lightning test --ckpt_path runs/version_0/checkpoints/best.ckpt" in out


def test_a_config_whose_command_had_several_lines_can_be_read_again(run):
    fit(run, '--checkpoint={"mode":\n"max"}')
    text = Path("runs/version_0/config.yaml").read_text()
    assert text.startswith("# python -m ner_lightning fit ")
    assert yaml.safe_load(text)["checkpoint"]["mode"] == "max"


def test_every_checkpoint_of_a_run_loads_without_running_code(run):
    fit(run)
    for path in Path("runs").glob("**/*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert "model.classifier.weight" in checkpoint["state_dict"]


def test_the_saved_config_runs_again(run):
    fit(run)
    code, _, err = run("fit", "--config=runs/version_0/config.yaml", "--trainer.max_steps=1", alone=True)
    assert code == 0, err


def test_test_after_fit_uses_the_best_checkpoint_of_the_newest_run(run, caplog):
    fit(run)
    fit(run)
    code, out, _ = run("test")
    assert code == 0
    assert "using runs/version_1/checkpoints/best.ckpt" in caplog.text
    assert "support" in out
    assert "11 words scored" in out  # the test split has two sentences of five and six words
    again = run("test", "--ckpt_path=runs/version_1/checkpoints/best.ckpt")[1]
    assert again == out


def test_a_checkpoint_alone_says_on_what_it_is_tested(run):
    fit(run)
    named = run("test")[1]
    assert run("test", alone=True)[1] == named
    assert run("test", "--ckpt_path=best", alone=True)[1] == named


def test_validate_of_the_best_checkpoint_repeats_the_score_of_fit(run):
    out = fit(run)
    best = next(line for line in out.splitlines() if line.startswith("best"))
    table = run("validate")[1]
    score = next(line for line in table.splitlines() if line.startswith("all")).split()[3]
    assert f"{float(score) / 100:.4f}" in best


def test_a_run_resumes_from_its_last_checkpoint_with_its_own_options(run):
    fit(run, "--model.learning_rate=0.003")
    code, out, err = run("fit", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert code == 0, err
    config = yaml.safe_load(Path("runs/version_1/config.yaml").read_text())
    assert config["model"]["learning_rate"] == 0.003
    assert [line.split()[0] for line in out.splitlines() if line[:1].isdigit()] == ["2"]  # the third epoch alone


def test_an_option_of_the_command_line_beats_the_checkpoint(run):
    fit(run)
    code, _, err = run("test", "--data.eval_batch_size=1", "--model.score_mode=strict")
    assert code == 0, err
    config = yaml.safe_load(Path("runs/version_1/config.yaml").read_text())
    assert config["data"]["eval_batch_size"] == 1
    assert config["model"]["score_mode"] == "strict"


def test_an_option_that_a_resumed_optimizer_would_override_is_refused(run):
    fit(run)
    message = error(run("fit", "--ckpt_path=last", "--model.learning_rate=0.25"))
    assert "--model.learning_rate=0.25, but" in message
    assert "was trained with 2e-05" in message


def test_a_run_that_max_steps_ends_inside_an_epoch_can_be_tested(run):
    code, out, err = run("fit", "--trainer.max_steps=1", "--data.batch_size=1")
    assert code == 0, err
    assert "checkpoints/last.ckpt" in out
    assert run("test")[0] == 0


def test_fit_without_validation_keeps_the_last_epoch(run):
    code, out, err = run("fit", "--trainer.max_epochs=1", without=["--data.validation_file"])
    assert code == 0, err
    assert "best.ckpt" in out


def test_fast_dev_run_writes_nothing(run):
    code, _, err = run("fit", "--trainer.fast_dev_run=true")
    assert code == 0, err
    assert not list(Path().glob("**/*.ckpt"))


def test_inspect_shows_device_corpus_alignment_and_batch(run):
    code, out, err = run("inspect")
    assert code == 0, err
    assert "device          cpu" in out
    assert re.search(r"B-PER +2 +1 +1\n", out)
    assert "##olm" in out  # Arvenholm in pieces
    assert "word_index" in out
    assert not Path("runs").exists()


def test_predict_adds_a_column_to_the_file(run, conll_files):
    fit(run)
    text = (conll_files / "test.conll").read_text()
    code, out, err = run("predict", f"--data.predict_file={conll_files / 'test.conll'}", alone=True)
    assert code == 0, err
    assert out == "11 words labelled: runs/version_1/predictions.conll\n"
    assert {path.name for path in Path("runs/version_1").iterdir()} == {"config.yaml", "predictions.conll"}
    written = Path("runs/version_1/predictions.conll").read_text()
    assert len(written.splitlines()) == len(text.splitlines())
    for before, after in zip(text.splitlines(), written.splitlines(), strict=True):
        assert after.startswith(before)
        assert len(after.split()) == len(before.split()) + (1 if before and "DOCSTART" not in before else 0)


TEXT = "Mira left Arvenholm, at last.\n\n The  Ostric Cup\n"


def test_standard_input_goes_to_standard_output_and_nothing_else_does(run, monkeypatch, tmp_path):
    fit(run)
    before = sorted(tmp_path.glob("**/*"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    code, out, err = run("predict", "--data.predict_file=-", "--trainer.enable_progress_bar=true", alone=True)
    assert code == 0, err
    assert [json.loads(line)["text"] for line in out.splitlines()] == TEXT.splitlines()
    assert "Predicting" in err
    assert sorted(tmp_path.glob("**/*")) == before


def test_an_explicit_output_is_the_only_file(run, tmp_path):
    fit(run)
    (tmp_path / "in.txt").write_text(TEXT)
    before = sorted(tmp_path.glob("**/*"))
    for output in ("out.jsonl", "-"):
        code, out, err = run("predict", "--data.predict_file=in.txt", f"--prediction.output={output}", alone=True)
        assert code == 0, err
    assert out == Path("out.jsonl").read_text()
    assert sorted(tmp_path.glob("**/*")) == sorted([*before, tmp_path / "out.jsonl"])


def test_predict_reads_no_corpus_whatever_the_config_names(run, tmp_path):
    fit(run)
    (tmp_path / "in.txt").write_text(TEXT)
    named = ["--data.dataset_name=nobody/nothing", "--data.train_file=nowhere.conll", "--data.scheme=BIOES"]
    code, out, err = run("predict", "--data.predict_file=in.txt", *named, alone=True)
    assert (code, "words labelled" in out) == (0, True), err


def test_predict_takes_a_saved_config_and_the_columns_of_the_file(run, tmp_path):
    fit(run)
    (tmp_path / "in.tsv").write_text("1\tMira\n2\tleft\n")
    args = ["--config=runs/version_0/config.yaml", "--data.predict_file=in.tsv", "--data.text_column_name=1"]
    code, out, err = run("predict", *args, "--prediction.output=-", alone=True)
    assert code == 0, err
    assert [line.rpartition("\t")[0] for line in out.splitlines()] == ["1\tMira", "2\tleft"]


def test_the_format_of_another_file_is_not_remembered(run, tmp_path):
    (tmp_path / "in.txt").write_text(TEXT)
    (tmp_path / "in.data").write_text(TEXT)
    fit(run, "--data.predict_file=in.data", "--data.predict_format=text")
    for args, words in ((["--data.predict_file=in.jsonl"], 1), ([], 10)):
        (tmp_path / "in.jsonl").write_text('{"text": "Mira"}\n')
        code, out, err = run("predict", *args, alone=True)
        assert (code, out.split(": ")[0]) == (0, f"{words} words labelled"), err


def test_the_options_of_the_output_are_those_of_predict_alone(run, capsys):
    with pytest.raises(SystemExit):
        run("test", "--prediction.output=-")
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    out = capsys.readouterr().out
    assert "--prediction.output" in out
    assert "standard output" in out


def test_other_labels_to_predict_with_are_refused(run, conll_files):
    fit(run)
    file = f"--data.predict_file={conll_files / 'test.conll'}"
    assert "was trained with the labels" in error(run("predict", file, "--data.labels=[O,B-X]", alone=True))


def test_standard_streams_belong_to_one_process(run, monkeypatch):
    fit(run)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    message = error(run("predict", "--data.predict_file=-", "--trainer.devices=2", alone=True))
    assert "belong to one process, and there are 2: give --trainer.devices=1" in message


def test_conllu_and_part_of_speech_run_the_same_way(run, tmp_path):
    line = "{n}\t{word}\t_\t{upos}\t_\t_\t0\troot\t_\t_\n"
    words = ["The DET", "river VERB"], ["A DET", "Bird NOUN", "sang VERB"]
    text = "".join(
        "# text\n" + "".join(line.format(n=i, word=w.split()[0], upos=w.split()[1]) for i, w in enumerate(s, 1)) + "\n"
        for s in words
    )
    path = tmp_path / "some.conllu"
    path.write_text(text)
    files = [f"--data.{split}_file={path}" for split in ("train", "validation", "test")]
    without = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    code, out, err = run("fit", "--trainer.max_epochs=1", *files, without=without)
    assert code == 0, err
    out = run("test", alone=True)[1]
    assert {line.split()[0] for line in out.splitlines() if line} >= {"DET", "NOUN", "VERB", "all"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data.train_file=nowhere.conll"], r"nowhere.conll: no such file"),
        (["--data.train_file=."], r"\.: .*directory"),
        (["--data.train_file=empty.conll"], r"empty.conll: .*empty"),
        (["--data.train_file=short.conll"], r"short.conll:2: .*column"),
        (["--data.label_column_name=7"], r"train.conll: .*column"),
        (["--data.max_seq_length=65"], r"--data.max_seq_length=65 .*64"),
        (["--data.max_seq_length=2"], r"--data.max_seq_length=2 leaves no room"),
        (["--data.batch_size=0"], r"--data.batch_size=0"),
        (["--data.eval_batch_size=-1"], r"--data.eval_batch_size=-1"),
        (["--data.num_workers=-1"], r"--data.num_workers=-1"),
        (["--model.learning_rate=-1"], r"--model.learning_rate=-1"),
        (["--trainer.default_root_dir=/proc/x"], r"/proc/x"),
        (["--model.warmup_ratio=2"], r"--model.warmup_ratio=2"),
        (["--model.freeze_layers=9"], r"--model.freeze_layers=9: the model has 1 layers"),
        (["--model.model_name_or_path=no/where"], r"--model.model_name_or_path=no/where: .*offline"),
        (["--trainer.max_epochs=-1"], r"--trainer.max_epochs"),
        (["--trainer.overfit_batches=1"], r"--trainer.overfit_batches .*limit_train_batches"),
        (["--ckpt_path=nowhere.ckpt"], r"--ckpt_path=nowhere.ckpt: no such file"),
        (["--ckpt_path=best"], r"no checkpoint below runs"),
    ],
)
def test_wrong_input_gets_one_sentence_and_leaves_nothing(run, tmp_path, args, message):
    (tmp_path / "empty.conll").touch()
    (tmp_path / "short.conll").write_text("Mira B-PER\nToll\n")
    replaced = [arg.split("=")[0] for arg in args]
    assert re.search(message, error(run("fit", *args, without=replaced)))
    assert not list(Path().glob("**/*.ckpt"))


def test_no_network_for_a_dataset_says_what_works_offline(run):
    without = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    message = error(run("fit", "--data.dataset_name=lhoestq/conll2003", without=without))
    assert "ner_lightning/quickstart" in message


def test_a_checkpoint_cut_short_is_named(run):
    fit(run)
    path = Path("runs/version_0/checkpoints/best.ckpt")
    path.write_bytes(path.read_bytes()[:-200])
    assert "best.ckpt: not a whole checkpoint" in error(run("test", f"--ckpt_path={path}"))


def test_labels_that_the_checkpoint_does_not_know_are_named_with_their_place(run, tmp_path):
    fit(run)
    (tmp_path / "more.conll").write_text("Mira NNP I-NP O\n\nToll NNP I-NP B-GOD\n")
    message = error(run("test", "--data.test_file=more.conll", alone=True))
    assert "more.conll:3" in message
    assert "B-GOD" in message


def test_other_labels_than_those_of_the_checkpoint_are_an_error_with_both_lists(run, conll_files):
    fit(run)
    message = error(run("test", "--data.labels=[O,B-LOC,I-LOC,B-PER,I-PER,B-ORG,I-ORG,B-MISC,I-MISC]"))
    assert "['O', 'B-LOC', 'I-LOC', 'B-MISC'" in message
    assert "['O', 'B-LOC', 'I-LOC', 'B-PER'" in message


@pytest.mark.parametrize("form", ["--data={path}", "--data {path}", "--data={{eval_batch_size: 7}}"])
def test_options_of_a_file_named_on_the_command_line_beat_the_checkpoint(run, tmp_path, form):
    fit(run)
    path = tmp_path / "data.yaml"
    path.write_text("eval_batch_size: 7")
    given = form.format(path=path)
    args = [given] if "{" in given else given.split(" ")
    assert run("test", *args, alone=True)[0] == 0
    assert yaml.safe_load(Path("runs/version_1/config.yaml").read_text())["data"]["eval_batch_size"] == 7


def test_abbreviated_options_are_not_taken(run):
    with pytest.raises(SystemExit) as exit_info:
        run("test", "--data.eval_batch=9")
    assert exit_info.value.code == 2


def test_names_of_numbers_are_remembered_for_the_test_file(run, tmp_path):
    names = "[O,B-PER,E-PER,I-PER,S-PER]"
    rows = [{"tokens": ["Mira", "de", "Toll", "left"], "ner_tags": [1, 3, 2, 0]}, {"tokens": ["Jon"], "ner_tags": [4]}]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "words.jsonl").write_text('{"tokens": ["Mira"]}\n')
    files = [f"--data.{split}_file={split}.jsonl" for split in ("train", "validation", "test")]
    without = [f"--data.{split}_file" for split in ("train", "validation", "test")]
    code, _, err = run("fit", "--trainer.max_epochs=1", f"--data.labels={names}", *files, without=without)
    assert code == 0, err
    for more in ([], ["--data.test_file=test.jsonl"]):
        code, out, err = run("test", *more, alone=True)
        assert code == 0, err
        assert next(line for line in out.splitlines() if line.startswith("PER")).split()[-1] == "2"
    assert run("predict", "--data.predict_file=words.jsonl", alone=True)[0] == 0


def test_a_fine_tuned_model_is_used_as_it_is_without_a_checkpoint(run, tmp_path, conll_files, tiny_model):
    from ner_lightning import TokenClassificationModule
    from ner_lightning.pretrained import load_tokenizer

    fit(run)
    scores = run("test")[1]
    model = TokenClassificationModule.load_from_checkpoint("runs/version_0/checkpoints/best.ckpt")
    model.model.save_pretrained(tmp_path / "tuned")
    load_tokenizer(str(tiny_model)).save_pretrained(tmp_path / "tuned")
    file = f"--data.predict_file={conll_files / 'test.conll'}"
    labelled = run("predict", file, "--prediction.output=-", alone=True)[1]
    shutil.rmtree("runs")
    tuned = f"--model.model_name_or_path={tmp_path / 'tuned'}"
    assert run("test", tuned, without=["--model.model_name_or_path"])[1] == scores
    code, out, err = run("predict", tuned, file, "--prediction.output=-", alone=True)
    assert (code, out) == (0, labelled), err
    (tmp_path / "other.conll").write_text("Mira B-GOD\n")
    message = error(run("test", tuned, "--data.train_file=other.conll", "--data.test_file=other.conll", alone=True))
    assert "B-GOD" in message
    assert "label list O, B-LOC" in message


def test_runs_that_start_together_have_folders_of_their_own(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(_new_version, [tmp_path / "runs"] * 24))
    assert sorted(versions) == list(range(24))


def test_a_resumed_run_has_its_seed_and_refuses_another(run):
    fit(run, "--seed_everything=7")
    assert run("fit", "--ckpt_path=last", "--trainer.max_epochs=3")[0] == 0
    assert yaml.safe_load(Path("runs/version_1/config.yaml").read_text())["seed_everything"] == 7
    message = error(run("fit", "--ckpt_path=last", "--seed_everything=8"))
    assert "--seed_everything=8, but" in message


def test_a_seed_of_the_data_alone_is_not_taken_for_that_of_the_run(run):
    fit(run, "--data.seed=7")
    code, _, err = run("fit", "--ckpt_path=last", "--trainer.max_epochs=3", "--seed_everything=42")
    assert code == 0, err
    config = yaml.safe_load(Path("runs/version_1/config.yaml").read_text())
    assert (config["seed_everything"], config["data"]["seed"]) == (42, 7)


def test_a_saved_config_tests_another_file(run, conll_files):
    fit(run)
    file = f"--data.test_file={conll_files / 'validation.conll'}"
    code, out, err = run("test", "--config=runs/version_0/config.yaml", file, "--data.train_file=null", alone=True)
    assert code == 0, err
    assert "12 words scored" in out


def test_weights_alone_do_not_resume(run):
    fit(run, "--checkpoint.save_weights_only=true")
    message = error(run("fit", "--ckpt_path=best"))
    assert "holds weights alone" in message


def test_a_test_file_without_entities_is_scored(run, tmp_path):
    fit(run)
    (tmp_path / "o.conll").write_text("Rain O\nfell O\n")
    assert "2 words scored" in run("test", "--data.test_file=o.conll", alone=True)[1]


def test_a_broken_checkpoint_of_another_run_is_passed_over(run, caplog):
    fit(run)
    broken = Path("runs/version_1/checkpoints/best.ckpt")
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"cut")
    assert run("test")[0] == 0
    assert "passing over a run" in caplog.text


def test_a_refused_test_leaves_no_folder(run):
    fit(run)
    error(run("test", "--data.labels=[O,B-LOC,I-LOC,B-PER,I-PER,B-ORG,I-ORG,B-MISC,I-MISC]"))
    error(run("test", without=["--data.test_file"]))
    error(run("predict", alone=True))
    assert [path.name for path in Path("runs").iterdir()] == ["version_0"]


def test_a_run_without_checkpoints_runs(run):
    code, _, err = run("fit", "--trainer.max_epochs=1", "--trainer.enable_checkpointing=false")
    assert code == 0, err
    assert not list(Path().glob("**/*.ckpt"))


def test_the_packaged_sample_is_labelled_from_any_folder(run):
    fit(run)
    file = "--data.predict_file=ner_lightning/quickstart/test.conll"
    code, out, err = run("predict", file, alone=True)
    assert (code, "predictions.conll" in out) == (0, True), err


def test_debug_shows_the_traceback(run):
    from ner_lightning.errors import InputError

    with pytest.raises(InputError, match="batch_size=0"):
        run("fit", "--data.batch_size=0", "--debug")


@pytest.mark.parametrize("args", [["fit", "--model.learning_rte=1"], ["fit", "--config=nowhere.yaml"], ["fly"], []])
def test_wrong_usage_exits_with_2_and_a_short_text(capsys, args):
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    err = capsys.readouterr().err
    assert "error" in err
    assert len(err.splitlines()) < 12


def test_help_imports_no_heavy_library_that_lightning_does_not_import_itself():
    code = (
        "import sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import lightning.pytorch.cli\n"
        "before = set(sys.modules)\n"
        "from ner_lightning.cli import main\n"
        "try: main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'datasets', 'pandas', 'pyarrow', 'seqeval', 'sklearn', 'transformers.modeling_utils'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    for text in ("--data.train_file", "--model.learning_rate", "Peak of the learning rate"):
        assert text in out


def test_the_epoch_with_the_smallest_loss_is_kept_where_the_loss_is_monitored(run):
    out = fit(run, "--checkpoint.monitor=val_loss", "--model.learning_rate=0.01")
    losses = [float(line.split()[1]) for line in out.splitlines() if line[:1].isdigit()]
    best = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["validation_scores"]["val_loss"] == pytest.approx(min(losses), abs=1e-4)
    assert max(losses) > min(losses)


def test_a_run_that_diverges_ends_at_once_and_keeps_no_such_weights(run):
    message = error(run("fit", "--model.learning_rate=1e30", "--data.batch_size=1"))
    assert "the training loss is nan at step " in message
    assert "nothing was saved before" in message
    assert not list(Path("runs").glob("**/*.ckpt"))


def test_weights_that_are_not_finite_are_never_kept(run):
    options = ["--model.learning_rate=1e30", "--model.terminate_on_nan=false", "--data.batch_size=1"]
    message = error(run("fit", *options))
    assert "are not finite at step " in message
    assert not list(Path("runs").glob("**/*.ckpt"))


def test_of_a_run_that_diverges_later_the_last_good_state_stays(run):
    fit(run)
    message = error(run("fit", "--ckpt_path=last", "--trainer.max_epochs=3", "--trainer.callbacks+=test_cli.Blow"))
    assert "runs/version_1/checkpoints/best.ckpt is the last good checkpoint" in message
    best = torch.load("runs/version_1/checkpoints/best.ckpt", weights_only=True)
    assert all(weights.isfinite().all() for weights in best["state_dict"].values())


class Blow(Callback):
    """Make a weight infinite, as an overflow would."""

    def on_train_start(self, trainer, pl_module):
        """The bias of the classifier."""
        pl_module.model.classifier.bias.data[0] = torch.inf


def test_labels_of_all_splits_are_those_of_the_model_its_checkpoint_and_every_later_test(run):
    Path("test.conll").write_text("Mira B-RARE\nleft O\n")
    fit(run, "--data.labels=all", "--data.test_file=test.conll")
    labels = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]["labels"]
    assert labels[-2:] == ["B-RARE", "I-RARE"]
    files = ("--data.train_file", "--data.validation_file")
    for without in ((), files):  # a test file alone has fewer labels
        code, _, err = run("test", "--data.test_file=test.conll", without=without)
        assert code == 0, err
    code, _, err = run(
        "fit",
        "--config=runs/version_0/config.yaml",
        "--ckpt_path=runs/version_0/checkpoints/last.ckpt",
        "--trainer.max_epochs=3",
        alone=True,
    )
    assert code == 0, err


def test_the_type_of_tags_without_one_goes_with_the_checkpoint(run):
    Path("one.conll").write_text("Mira B\nToll I\nleft O\n")
    files = [f"--data.{split}_file=one.conll" for split in ("train", "validation", "test")]
    fit(run, "--data.entity_type=Taxon", *files)
    code, out, err = run("test", "--data.test_file=one.conll", without=("--data.train_file", "--data.validation_file"))
    assert code == 0, err
    assert "Taxon" in out
