"""The command line: `fit`, `validate`, `test`, `predict` and `inspect`, from Lightning's own LightningCLI.

It joins the parts: what the data says of its labels goes to the model, the name of the model goes to the tokenizer, a
checkpoint gives the options that were not given. It holds nothing that a notebook would miss.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_info

import ner_lightning
from ner_lightning.checkpoints import BestCheckpoint, LastCheckpoint, newest_checkpoint, read_checkpoint
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.model import TokenClassificationModule
from ner_lightning.prediction import PredictionWriter
from ner_lightning.pretrained import load_config, trained_labels
from ner_lightning.reports import RunSummary, ScoreTable, batch_text, description_text

_PROGRAM = "python -m ner_lightning"
# options of the data that say where it comes from: given ones replace all of those that a checkpoint recorded
_SOURCES = {
    "dataset_name",
    "dataset_config_name",
    "dataset_revision",
    "train_file",
    "validation_file",
    "test_file",
    "predict_file",
}
# options that are made from others and never given
_LINKED = {"model.labels", "data.model_name_or_path", "data.model_revision"}


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments without the name of the program; by default those that the program was started with.

    Returns:
        Exit code: 0, or 1 after an error that is told in one sentence. Wrong usage exits with 2.
    """
    args = sys.argv[1:] if args is None else args
    # batches are tokenised ahead of time: workers have next to nothing to do
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # a run that ends before its first validation: LastCheckpoint keeps it
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    # Lightning's own use of torch
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated.*")
    # Lightning's warning against two sources of arguments: there is one, the list
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within Python.*")
    try:
        TokenClassificationCLI(args)
    except (InputError, MisconfigurationException) as error:
        if "--debug" in args:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


class Trainer(LightningTrainer):
    """The Trainer of Lightning: devices, precision, epochs, logging."""

    def inspect(self, model: TokenClassificationModule, datamodule: TokenClassificationDataModule) -> None:
        """Show the device, the corpus, the alignment of its first sentence and one batch, without training.

        Args:
            model: Not used.
            datamodule: The data to show.
        """
        device = self.strategy.root_device
        print(f"\ndevice          {device}, precision {self.precision}\n{description_text(datamodule.describe())}")
        batch = next(iter(datamodule.loader(next(iter(datamodule.corpus.splits)))))
        tokens = datamodule.encoder.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
        print(f"\n{batch_text(batch, tokens, datamodule.labels)}")


class TokenClassificationCLI(LightningCLI):
    """The command line of this package.

    Args:
        args: Arguments without the name of the program.
    """

    def __init__(self, args: list[str]) -> None:
        self._args = args
        super().__init__(
            TokenClassificationModule,
            TokenClassificationDataModule,
            trainer_class=Trainer,
            trainer_defaults={
                "default_root_dir": "runs",
                "max_epochs": 3,
                "callbacks": [LastCheckpoint(), RunSummary(), ScoreTable()],
            },
            seed_everything_default=42,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            # one line of usage instead of a screen of option names above each error
            parser_kwargs={
                "prog": _PROGRAM,
                "description": ner_lightning.__doc__,
                **{name: {"usage": f"{_PROGRAM} {name} [--config FILE] [options]"} for name in self.subcommands()},
            },
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What there is to do, and the arguments that are not options."""
        return {**LightningCLI.subcommands(), "inspect": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint of the best epoch, the links, and `--debug`."""
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.link_arguments("model.model_name_or_path", "data.model_name_or_path")
        parser.link_arguments("model.model_revision", "data.model_revision")
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")
        parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")

    def instantiate_trainer(self, **kwargs: Any) -> LightningTrainer:
        """Make the Trainer, with a CSV and a TensorBoard log that share the folder of the run."""
        config = self._get(self.config_init, "trainer")
        if config.logger in (None, True):
            root = config.default_root_dir
            csv = CSVLogger(root, name="")
            kwargs["logger"] = [csv, TensorBoardLogger(root, name="", version=csv.version)]
        if self.subcommand == "predict":
            self.trainer_defaults["callbacks"].append(PredictionWriter())
        if self.subcommand == "fit":
            if config.logger is not False and not config.fast_dev_run:
                self.trainer_defaults["callbacks"].append(LearningRateMonitor("step"))
            if "validation" not in self.datamodule.corpus.splits:
                rank_zero_info("there is no validation split: nothing is scored, and the last epoch is kept")
                self._get(self.config_init, "checkpoint").monitor = None
                kwargs["limit_val_batches"] = 0
        return super().instantiate_trainer(**kwargs)

    def validate(self, **kwargs: Any) -> None:
        """Validate without Lightning's own table of numbers: ScoreTable prints one."""
        self.trainer.validate(**{**kwargs, "verbose": False})

    def test(self, **kwargs: Any) -> None:
        """Test without Lightning's own table of numbers: ScoreTable prints one."""
        self.trainer.test(**{**kwargs, "verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Label the words of `--data.predict_file`, into the folder of the run."""
        self.trainer.predict(**{**kwargs, "return_predictions": False})

    def _parse_ckpt_path(self) -> None:
        """Take from the checkpoint what was not given.

        LightningCLI would put all hyperparameters of the checkpoint over the command line. Here, from strong to weak:
        an option on the command line, the checkpoint, a config file, the default; for the data a config file is
        stronger than the checkpoint. `fit` resumes the optimizer too, so that an option that contradicts the
        checkpoint could have no effect: that is an error.
        """
        subcommand = self.config["subcommand"]
        config = self.config[subcommand]
        if subcommand == "inspect":
            config["model"]["pretrained"] = False  # nothing is run: no weights are needed
            return
        typed = {arg.split("=")[0].removeprefix("--") for arg in self._args if arg.startswith("--")}
        files = [*(self.config.get("config") or []), *(config.get("config") or [])]
        given = typed | _in_config_files(files, subcommand)
        config["ckpt_path"] = self._checkpoint_path(subcommand, given)
        if config["ckpt_path"] is None:
            return
        checkpoint = read_checkpoint(config["ckpt_path"])
        for key, value in _options("model", checkpoint["hyper_parameters"]).items():
            if key in (given if subcommand == "fit" else typed):
                if subcommand == "fit" and config[key] != value:
                    raise InputError(
                        f"--{key}={config[key]}, but {config['ckpt_path']} was trained with {value}: a run is resumed "
                        "with its own options; leave it out, or start a new run"
                    )
            else:
                config[key] = value
        if subcommand != "fit":
            config["model"]["pretrained"] = False  # the weights are those of the checkpoint
        for name in ("model_name_or_path", "model_revision"):
            config["data"][name] = config["model"][name]
        recorded = _options("data", checkpoint.get("datamodule_hyper_parameters", {}))
        own_source = any(f"data.{name}" in given for name in _SOURCES)
        for key, value in recorded.items():
            if key not in given and not (own_source and key.removeprefix("data.") in _SOURCES):
                config[key] = value
        if not own_source:  # the very commit that it was trained on, whatever its branch holds by now
            commit = checkpoint.get(TokenClassificationDataModule.__qualname__, {}).get("dataset_commit")
            config["data"]["dataset_revision"] = commit or config["data"]["dataset_revision"]
        if "data.labels" not in given and not (own_source and _has_train(config["data"])):
            config["data"]["labels"] = checkpoint["hyper_parameters"]["labels"]

    def _checkpoint_path(self, subcommand: str, given: set[str]) -> str | None:
        """The checkpoint that was asked for; without one, all but `fit` use the best of the newest run."""
        config = self.config[subcommand]
        asked, root = config.get("ckpt_path"), config["trainer"]["default_root_dir"] or "."
        if asked not in (None, "best", "last"):
            return str(asked)
        if asked is None and subcommand == "fit":
            return None
        name = config["model"]["model_name_or_path"] if "model.model_name_or_path" in given else None
        path = newest_checkpoint(root, kind=asked or "best", model_name_or_path=name)
        if path is not None:
            rank_zero_info(f"using {path}")
            return str(path)
        if asked is None and name is not None and trained_labels(load_config(name)) is not None:
            return None  # a model that was fine-tuned before is used as it is
        of = f" that started from {name}" if name else ""
        raise InputError(
            f"no checkpoint below {Path(root)}{of}: run `fit` first, give --ckpt_path, or name a fine-tuned model with "
            "--model.model_name_or_path"
        )


def _in_config_files(paths: Sequence[Any], subcommand: str) -> set[str]:
    given = set()
    for path in paths:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        for group, options in (content.get(subcommand) or content).items():
            given |= {f"{group}.{name}" for name in options} if isinstance(options, dict) else {group}
    return given


def _options(group: str, hyperparameters: dict[str, Any]) -> dict[str, Any]:
    options = {f"{group}.{name}": value for name, value in hyperparameters.items() if not name.startswith("_")}
    return {name: value for name, value in options.items() if name not in _LINKED}


def _has_train(data: Any) -> bool:
    files = [data["train_file"], data["validation_file"], data["test_file"], data["predict_file"]]
    return data["train_file"] is not None if any(files) else data["dataset_name"] is not None
