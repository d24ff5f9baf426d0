"""The command line: `fit`, `validate`, `test`, `predict` and `inspect`, from Lightning's own LightningCLI.

It joins the parts: what the data says of its labels goes to the model, the name of the model goes to the tokenizer, a
checkpoint gives the options that were not given. It holds nothing that a notebook would miss.
"""

from __future__ import annotations

import re
import shlex
import sys
import warnings
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only

import ner_lightning
from ner_lightning.checkpoints import BestCheckpoint, LastCheckpoint, read_checkpoint
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.model import TokenClassificationModule
from ner_lightning.options import checkpoint_to_use, complete, recorded_options, refuse_contradictions
from ner_lightning.predict_file import STANDARD_INPUT
from ner_lightning.prediction import PredictionWriter
from ner_lightning.pretrained import load_config, trained_labels
from ner_lightning.reports import RunSummary, ScoreTable, batch_text, description_text
from ner_lightning.scores import TestRecord

_PROGRAM = "python -m ner_lightning"
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")


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
    # Lightning's estimate of the model's size counts 32 bits a weight
    warnings.filterwarnings("ignore", message=".*is not supported by the model summary.*")
    # Lightning's own use of torch
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated.*")
    # Lightning's warning against two sources of arguments: there is one, the list
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within Python.*")
    try:
        TokenClassificationCLI(args)
    except (InputError, MisconfigurationException, OSError) as error:
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
                "callbacks": [LastCheckpoint(), RunSummary(), ScoreTable(), TestRecord()],
            },
            save_config_callback=_SaveConfig,
            save_config_kwargs={"command": f"{_PROGRAM} {shlex.join(args)}"},
            seed_everything_default=42,
            auto_configure_optimizers=False,
            # one line of usage instead of a screen of option names above each error
            parser_kwargs={
                "prog": _PROGRAM,
                "description": ner_lightning.__doc__,
                "epilog": "Two more need no Trainer: export writes a checkpoint as a folder that transformers loads, "
                f"push sends a run to the Hugging Face Hub ({_PROGRAM} export --help, push --help).",
                "allow_abbrev": False,
                **{
                    name: {"usage": f"{_PROGRAM} {name} [--config FILE] [options]", "allow_abbrev": False}
                    for name in self.subcommands()
                },
            },
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # a static method there
        """What there is to do, and the arguments that are not options."""
        none = {"model", "datamodule", "dataloaders", "verbose", "return_predictions"}
        fit = LightningCLI.subcommands()["fit"]
        every = {"fit": fit, "validate": none, "test": none, "predict": none, "inspect": none}
        # a parser takes a tenth of a second to make: where the first word says which is wanted, only that one
        return {name: skip for name, skip in every.items() if self._args[:1] == [name]} or every

    # the one place where Lightning says for which subcommand a parser is
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_lightning_class_args(PredictionWriter, "prediction")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint of the best epoch, the links, and `--debug`."""
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.link_arguments("model.model_name_or_path", "data.model_name_or_path")
        parser.link_arguments("model.model_revision", "data.model_revision")
        parser.link_arguments("model.trust_remote_code", "data.trust_remote_code")
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")
        parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")

    def before_instantiate_classes(self) -> None:
        """Refuse a token, which would stand in the saved config and in the card of the model."""
        if _TOKEN.search(str(self.config)):
            raise InputError(
                "an option holds what looks like a token of the Hub, which would be written to files that are shared: "
                "take it out; `hf auth login` or HF_TOKEN are where the Hub client finds it"
            )

    def instantiate_trainer(self, **kwargs: Any) -> LightningTrainer:
        """Make the Trainer, with a CSV and a TensorBoard log that share the folder of the run."""
        self._check_before_anything_is_written()
        config = self._get(self.config_init, "trainer")
        callbacks = self.trainer_defaults["callbacks"]
        if self.subcommand == "predict":
            kwargs.update(self._options_to_predict(config))
        elif self.subcommand != "inspect" and config.logger in (None, True) and not config.fast_dev_run:
            root, version = config.default_root_dir, _new_version(Path(config.default_root_dir))
            kwargs["logger"] = [CSVLogger(root, "", version), TensorBoardLogger(root, "", version)]
            if self.subcommand == "fit":
                callbacks.append(LearningRateMonitor("step"))
        if self.subcommand == "fit" and "validation" not in self.datamodule.corpus.splits:
            rank_zero_info("there is no validation split: nothing is scored, and the last epoch is kept")
            self._get(self.config_init, "checkpoint").monitor = None
            kwargs["limit_val_batches"] = 0
        if config.enable_checkpointing is False:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
            callbacks[:] = [callback for callback in callbacks if not isinstance(callback, LastCheckpoint)]
        if self.subcommand != "predict" and self.datamodule.corpus.commit:  # so that the saved config repeats the run
            self._get(self.config, "data")["dataset_revision"] = self.datamodule.corpus.commit
        trainer = super().instantiate_trainer(**kwargs)
        if self.subcommand == "predict":  # before there are other processes, which would wait for this one
            writer = self._get(self.config_init, "prediction")
            writer.refuse_processes(trainer.world_size, predict_file=self.datamodule.predict_file)
        return trainer

    def validate(self, **kwargs: Any) -> None:
        """Validate without Lightning's own table of numbers: ScoreTable prints one."""
        self.trainer.validate(**kwargs, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Test without Lightning's own table of numbers: ScoreTable prints one."""
        self.trainer.test(**kwargs, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Label the words of `--data.predict_file`; PredictionWriter writes them."""
        writer = self._get(self.config_init, "prediction")
        streams = writer.streams(self.datamodule.predict_file)
        with redirect_stdout(sys.stderr) if streams else nullcontext():  # a progress bar is no prediction
            self.trainer.predict(**kwargs, return_predictions=False)

    def _parse_ckpt_path(self) -> None:
        """Parse again with what the checkpoint records as defaults; LightningCLI would put it over the command line."""
        subcommand = self.config["subcommand"]
        config = self.config[subcommand]
        self._refuse_trust_by_a_file(config)
        if subcommand == "inspect":
            config["model"]["pretrained"] = False  # nothing is run: no weights are needed
            return
        parser, given = self._parser(subcommand), config
        path = checkpoint_to_use(config, subcommand, model_name_or_path=self._model_given(parser, config))
        checkpoint = None
        if path is not None:
            checkpoint = read_checkpoint(path)
            known = parser.get_defaults()
            recorded = recorded_options(checkpoint, subcommand, given=given)
            parser.set_defaults({name: value for name, value in recorded.items() if name in known})
            self.parse_arguments(self.parser, self._args)
            config = self.config[subcommand]
            config["ckpt_path"] = path
            if subcommand == "fit":
                refuse_contradictions(config, checkpoint)
        complete(config, subcommand, given=given, checkpoint=checkpoint)

    def _model_given(self, parser: LightningArgumentParser, config: Any) -> str | None:
        """The name of the model, where the command line or a config file has one, be it the default."""
        name: str = config["model"]["model_name_or_path"]
        default = parser.get_default("model.model_name_or_path")
        if name != default:
            return name
        parsed = self.config
        parser.set_defaults({"model.model_name_or_path": ""})
        self.parse_arguments(self.parser, self._args)
        parser.set_defaults({"model.model_name_or_path": default})
        found: str = self.config[self.config["subcommand"]]["model"]["model_name_or_path"]
        self.config = parsed
        return found or None

    def _refuse_trust_by_a_file(self, config: Any) -> None:
        typed = {arg.split("=")[0] for arg in self._args}
        if config["model"]["trust_remote_code"] and "--model.trust_remote_code" not in typed:
            raise InputError(
                "a config file says model.trust_remote_code=true, which would run the code of others: only the command "
                "line can say so; take it out, and give --model.trust_remote_code=true if you trust that code"
            )

    def _options_to_predict(self, config: Any) -> dict[str, Any]:
        """What the Trainer is given to predict: no log, as nothing is measured, and a folder if anything goes there."""
        writer, predict_file = self._get(self.config_init, "prediction"), self.datamodule.predict_file
        options: dict[str, Any] = {}
        if config.logger in (None, True):
            options["logger"] = False
        if writer.output is not None or writer.streams(predict_file):
            self.save_config_callback = None
        elif options and not config.fast_dev_run:
            root = Path(config.default_root_dir)
            options["default_root_dir"] = str(root / f"version_{_new_version(root)}")
        if config.devices == "auto" and (predict_file == STANDARD_INPUT or writer.streams(predict_file)):
            options["devices"] = 1
        if config.enable_progress_bar is None and writer.streams(predict_file) and sys.stdout.isatty():
            options["enable_progress_bar"] = False  # it would move over the predictions
        return options

    def _check_before_anything_is_written(self) -> None:
        """What is wrong with the data or does not fit the model is said before the run has a folder."""
        splits = {"fit": "train", "validate": "validation", "test": "test"}
        if self.subcommand == "predict":
            self.datamodule.predict_dataloader()
        if self.subcommand in splits:
            self.datamodule.loader(splits[self.subcommand])
        if self.subcommand == "inspect":
            return
        path, name = self._get(self.config, "ckpt_path"), self._get(self.config, "model")["model_name_or_path"]
        if path is not None:
            self.model.on_load_checkpoint(read_checkpoint(path))
        elif (
            self.subcommand != "fit"
            and (own := trained_labels(load_config(name, trust_remote_code=self.model.trust_remote_code)))
            != self.model.labels
        ):
            raise InputError(f"{name} was trained with the labels {own}, the data has {self.model.labels}")


class _SaveConfig(SaveConfigCallback):
    """Save the config with the command that it came from as its first line."""

    def __init__(self, *args: Any, command: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.command = command

    def on_save_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the whole configuration in the checkpoint, so that a resumed run needs no config file."""
        checkpoint["config"] = self.parser.dump(self.config, skip_none=False)

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config, and put the command above it."""
        if self.already_saved:
            return
        super().setup(trainer, pl_module, stage)
        path = Path(trainer.log_dir or "") / self.config_filename  # asked for in all processes, which agree on it
        if trainer.is_global_zero:
            command = self.command.replace("\n", "\n# ")  # an argument of several lines stays a comment
            path.write_text(f"# {command}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


def _new_version(root: Path) -> int:
    """The number of a new run, whose folder is made at once: two runs that start together must not share one."""
    taken = [path.name.removeprefix("version_") for path in root.glob("version_*")]
    version = max((int(number) for number in taken if number.isdigit()), default=-1) + 1
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return version  # never written to: all processes follow the first one
    while True:
        try:
            (root / f"version_{version}").mkdir(parents=True)
        except FileExistsError:
            version += 1
        else:
            return version
