"""The command line: `fit`, `validate`, `test` and `inspect`, from Lightning's own LightningCLI.

It joins the parts: what the data says of its labels goes to the model, the name of the model goes to the tokenizer, a
checkpoint gives the options that were not given. It holds nothing that a notebook would miss.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined] # which its own documentation imports so
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.seed import max_seed_value
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only

import ner_lightning
from ner_lightning.checkpoints import data_state, is_within_epoch, read_checkpoint, run_folder, what_is_done
from ner_lightning.config_files import find_configs
from ner_lightning.corpus import paths_of
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError, first_line
from ner_lightning.hardware import keep_memory
from ner_lightning.hub import PushToHub  # noqa: F401 # known by its short name only once it is imported
from ner_lightning.interruption import Interruption
from ner_lightning.loggers import LogPositions
from ner_lightning.model import TokenClassificationModule
from ner_lightning.options import (
    checkpoint_to_use,
    complete,
    options_of_the_model,
    recorded_options,
    refuse_contradictions,
)
from ner_lightning.parser import Parser, TrainerHelp
from ner_lightning.pretrained import load_config, trained_labels
from ner_lightning.processes import ending_with_launcher
from ner_lightning.reports import (
    RunSummary,
    ScoreTable,
    ValidationFigures,  # noqa: F401 # as PushToHub
    batch_text,
    corpus_text,
    description_text,
)
from ner_lightning.reports.checks import check_corpus, findings_text
from ner_lightning.saving import BestCheckpoint, LastCheckpoint, TestRecord, WholeCheckpointIO
from ner_lightning.trainer import (
    CheckMonitors,
    SaveConfig,
    SteadyProgressBar,
    Trainer,
    launched_processes,
    refuse_to_wait_for_scores,
)

_PROGRAM = "python -m ner_lightning"
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")
_SPLITS = {"fit": ["train", "validation"], "validate": ["validation"], "test": ["test"]}  # that a subcommand uses
# what Lightning tells that no user can do anything about, by how it begins; the last would tear the progress bar in two
_CHATTER = ("💡 Tip:", "Loading `train_dataloader`", "TPU available: False", "`Trainer.fit` stopped:")


def main(
    args: list[str] | None = None,
    *,
    model_class: type[TokenClassificationModule] = TokenClassificationModule,
    datamodule_class: type[TokenClassificationDataModule] = TokenClassificationDataModule,
    callbacks: Sequence[Callback] = (),
) -> int:
    """Run the command line.

    Args:
        args: Arguments without the name of the program; by default those that the program was started with.
        model_class: What is trained.
        datamodule_class: What it is trained on.
        callbacks: Of the Trainer, besides those that a run has; no config holds them.

    Returns:
        Exit code: 0, or 1 after an error that is told in one sentence. Wrong usage exits with 2, a run that a signal
        stopped with 128 and its number.
    """
    args = sys.argv[1:] if args is None else args
    # batches are tokenised ahead of time: workers have next to nothing to do
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # what --optimizer is for
    warnings.filterwarnings("ignore", message=".*configure_optimizers` will be overridden by.*")
    # a run that ends before its first validation: LastCheckpoint keeps it
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    # Lightning's estimate of the model's size counts 32 bits a weight
    warnings.filterwarnings("ignore", message=".*is not supported by the model summary.*")
    # Lightning's own use of torch
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.* is deprecated.*")
    # Lightning's warning against two sources of arguments: there is one, the list
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within Python.*")
    # another monitor, which is said by us
    warnings.filterwarnings("ignore", message=r".*Please add the following callbacks: \[.BestCheckpoint\{[^]]*\}.\]")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_chatter)
    try:
        with ending_with_launcher():
            TokenClassificationCLI(
                args, model_class=model_class, datamodule_class=datamodule_class, callbacks=callbacks
            )
    except (InputError, MisconfigurationException, ModuleNotFoundError, OSError) as error:
        if "--debug" in args:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "--debug" in args or not isinstance(error.__cause__, InputError):
            raise
        print(f"error: {error.__cause__}", file=sys.stderr)  # another process has failed, see `interruption`
        return 1
    except SIGTERMException as error:  # Lightning's, between its first handler and ours; it would be 0
        raise SystemExit(128 + signal.SIGTERM) from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning makes 1 of it
            raise KeyboardInterrupt from error
        raise
    return 0


def _no_chatter(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_CHATTER)


class TokenClassificationCLI(LightningCLI):
    """The command line of this package, for its own module and datamodule or for subclasses with options of their own.

    Args:
        args: Arguments without the name of the program; by default those that the program was started with.
        model_class: What is trained.
        datamodule_class: What it is trained on.
        callbacks: Of the Trainer, besides those that a run has; no config holds them.
    """

    trainer: Trainer

    def __init__(
        self,
        args: list[str] | None = None,
        *,
        model_class: type[TokenClassificationModule] = TokenClassificationModule,
        datamodule_class: type[TokenClassificationDataModule] = TokenClassificationDataModule,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        args = sys.argv[1:] if args is None else args
        self._args = find_configs(args)
        program = _PROGRAM
        if (model_class, datamodule_class) != (TokenClassificationModule, TokenClassificationDataModule):
            program = shlex.join(["python", sys.argv[0]])  # the script that has them
        super().__init__(
            model_class,
            datamodule_class,
            trainer_class=Trainer,
            trainer_defaults={
                "default_root_dir": "runs",
                "max_epochs": 3,
                "num_sanity_val_steps": 1,  # the longest windows come first: the next batch would show no more
                "callbacks": [
                    CheckMonitors(),
                    RunSummary(program),
                    ScoreTable(),
                    TestRecord(),
                    *callbacks,  # which see the end of an epoch at which the next one stops
                    Interruption(program),
                    LogPositions(),
                ],
            },
            save_config_callback=SaveConfig,
            save_config_kwargs={"command": f"{program} {shlex.join(args)}"},
            seed_everything_default=42,
            # one line of usage instead of a screen of option names above each error
            parser_kwargs={
                "prog": program,
                "description": ner_lightning.__doc__,
                "epilog": "More commands: seeds runs fit with several seeds, tune looks for better options, "
                "learning-curve tells what more data would bring, compare shows runs side by side, report writes a "
                "page about the errors of a run, predict labels files, serve does over HTTP, demo lets one try a model "
                "in a browser, export writes a checkpoint as a folder that transformers loads, push sends a run to "
                "the Hugging Face Hub "
                f"({_PROGRAM} predict --help, and so on).",
                "allow_abbrev": False,
                **{
                    name: {"usage": f"{program} {name} [--config FILE] [options]", "allow_abbrev": False}
                    for name in self.subcommands()
                },
            },
            args=self._args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # a static method there
        """What there is to do, and the arguments that are not options."""
        every = ("fit", "validate", "test", "inspect")
        # a parser takes a tenth of a second to make: where the first word says which is wanted, only that one
        wanted = [name for name in every if self._args[:1] == [name]] or every
        return {name: {"model", "datamodule"} for name in wanted}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser, which saves the versions with a config."""
        kwargs["dump_header"] = [f"{m.__name__}=={m.__version__}" for m in (ner_lightning, lightning.pytorch)]
        parser = Parser(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ActionConfigFile,
            help="A YAML or JSON file of options, as each run saves one, or the name of one in the package, such as "
            "`conll`; of several the last one decides.",
        )
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed."""
        parser.add_argument(
            "--seed_everything",
            type=bool | int,
            default=self.seed_everything_default,
            help="Seed of all that is random: a number, or `true` to have one drawn.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint of the best epoch, optimizer and schedule, the links, and `--debug`."""
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        titles = {
            "optimizer": "Another optimizer (of all parameters, in place of AdamW, its weight decay and its schedule)",
            "lr_scheduler": "A schedule for that optimizer (a step after each epoch)",
        }
        for name, group in (parser.groups or {}).items():
            group.title = titles.get(name, group.title)
        parser.link_arguments("model.model_name_or_path", "data.model_name_or_path")
        parser.link_arguments("model.model_revision", "data.model_revision")
        parser.link_arguments("model.keep_case", "data.keep_case")
        parser.link_arguments("model.trust_remote_code", "data.trust_remote_code")
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")
        parser.add_argument(
            "--keep_memory",
            type=bool,
            default=True,
            help="Keep freed memory while training, and do not take it anew each step (Linux with glibc).",
        )
        parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
        parser.add_argument(
            "--help.trainer",
            action=TrainerHelp,
            help="Show the options of Lightning's Trainer (--trainer.max_epochs, --trainer.precision, ...) and exit.",
        )

    # the only hook that knows which subcommand a parser is of
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Add `--json` to `inspect`."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "inspect":
            parser.add_argument("--json", action="store_true", help="Print all as one JSON object, for machines.")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and refuse a seed that no generator takes."""
        try:
            super().parse_arguments(parser, args)
        except (ValueError, RecursionError) as error:  # of values that are no text, path or number for the system
            raise InputError(
                f"an option or a config file has a value that cannot be read: {first_line(error)}"
            ) from error
        seed = self.config[self.config["subcommand"]]["seed_everything"]
        if not 0 <= seed <= max_seed_value:
            raise InputError(f"--seed_everything={seed}: give a number from 0 to {max_seed_value}")

    def before_instantiate_classes(self) -> None:
        """Refuse a token, which would stand in the saved config and in the card of the model, and unusable paths."""
        if _TOKEN.search(str(self.config)):
            raise InputError(
                "an option holds what looks like a token of the Hub, which would be written to files that are shared: "
                "take it out; `hf auth login` or HF_TOKEN are where the Hub client finds it"
            )
        root = self._options["trainer"]["default_root_dir"]
        if "://" in str(root):
            raise InputError(f"--trainer.default_root_dir={root}: give a folder of this machine, where runs are kept")
        if self.subcommand == "fit":
            self._check_optimizer()
        self._refuse_paths_from_elsewhere()

    def instantiate_classes(self) -> None:
        """Make the objects; what one says of its options stands alone, and not in a dump of all of them."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, (InputError, ModuleNotFoundError)):
                cause = cause.__cause__ or cause.__context__
            if cause is None:
                raise
            raise InputError(str(cause)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, and last of all the folder of the run, for all that it writes."""
        # of processes that a launcher starts together, one tokenises; the others find it done after prepare_data
        if self.subcommand in _SPLITS and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._check_data()
        if self.subcommand != "inspect":
            self._check_checkpoint()
        if self.subcommand == "fit" and self._options["keep_memory"]:
            keep_memory()
        kwargs |= self._trainer_options()
        self._choose_callbacks(scored=kwargs.get("limit_val_batches") != 0)
        if self.datamodule.corpus.commit:  # so that the saved config repeats the run
            self._options["data"]["dataset_revision"] = self.datamodule.corpus.commit
        try:
            trainer: Trainer = super().instantiate_trainer(**kwargs)  # type: ignore[assignment] # of `trainer_class`
        except ValueError as error:  # of Lightning, about an option of the Trainer
            raise InputError(str(error)) from error
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # else somebody's own, or that of a strategy
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        self._give_folder(trainer)
        if self.subcommand in _SPLITS and trainer.is_global_zero:
            print(corpus_text(self.datamodule, _SPLITS[self.subcommand]))
            if self.subcommand == "fit" and trainer.run_dir is not None:
                print(f"run         {trainer.run_dir}", flush=True)
        return trainer

    def inspect(self, **kwargs: Any) -> None:
        """Print what the Trainer shows of device, corpus and one batch, and what may be wrong with the corpus."""
        shown = self.trainer.inspect(**kwargs)
        findings = check_corpus(self.datamodule)
        if self._options["json"]:
            kept = {name: value for name, value in shown.items() if name not in ("batch", "pieces")}
            print(json.dumps(kept | {"checks": [asdict(one) for one in findings]}, ensure_ascii=False, default=str))
            return
        print(f"\ndevice          {shown['device']}, precision {shown['precision']}\n{description_text(shown)}")
        print(f"\n{batch_text(shown['batch'], shown['pieces'], self.datamodule.labels)}")
        print(f"\n{findings_text(findings)}")

    @property
    def _options(self) -> Any:
        """The options of the subcommand."""
        return self.config[str(self.subcommand)]

    @property
    def _made(self) -> Any:
        """The same, with objects in place of what describes them."""
        return self.config_init[str(self.subcommand)]

    # LightningCLI has no public hook between parsing and seeding, and this one of its own would put what the checkpoint
    # records over the command line; `_parser` is private, too: the only way to the parser of a subcommand
    def _parse_ckpt_path(self) -> None:
        """Parse again with what the checkpoint, or a model that is used as it is, records as defaults."""
        subcommand = self.config["subcommand"]
        config = self.config[subcommand]
        self._refuse_trust_by_a_file(config)
        if subcommand == "inspect":
            config["model"]["pretrained"] = False  # nothing is run: no weights are needed
            return
        parser, given = self._parser(subcommand), config
        path = checkpoint_to_use(config, subcommand, model_name_or_path=self._model_given(parser, config))
        checkpoint = None if path is None else read_checkpoint(path)
        if checkpoint is not None:
            recorded = recorded_options(checkpoint, subcommand, path=Path(str(path)), given=given)
        else:
            recorded = {} if subcommand == "fit" else options_of_the_model(config)
        if recorded:
            known = parser.get_defaults()
            parser.set_defaults({name: value for name, value in recorded.items() if name in known})
            self.parse_arguments(self.parser, self._args)
            config = self.config[subcommand]
        if checkpoint is not None:
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

    def _check_optimizer(self) -> None:
        """Say what an optimizer of the user's leaves without an effect."""
        optimizer, schedule = (self._options[name] for name in ("optimizer", "lr_scheduler"))
        if schedule and not optimizer:
            raise InputError(
                "--lr_scheduler is for an --optimizer: give one, such as --optimizer=AdamW --optimizer.lr=2e-5"
            )
        model, defaults = self._options["model"], self._parser(self.subcommand).get_defaults()["model"]
        for name in ("learning_rate", "head_learning_rate", "weight_decay", "warmup_ratio") if optimizer else ():
            if model[name] != defaults[name]:
                rank_zero_info(f"--model.{name}={model[name]} has no effect beside --optimizer")

    def _refuse_paths_from_elsewhere(self) -> None:
        """Say of a path that is not there that a checkpoint recorded it, for a run that started in another folder."""
        path, data = self._options.get("ckpt_path"), self._options["data"]
        if path is None:
            return
        checkpoint = read_checkpoint(path)
        recorded = checkpoint.get("datamodule_hyper_parameters", {})
        of_the_hub = data_state(checkpoint).get("dataset_commit") is not None
        files = ["train_file", "validation_file", "test_file"]  # any of which replaces the dataset
        unused = of_the_hub or any(data[name] for name in files)
        for name in files if unused else ["dataset_name"]:
            value = data[name]
            missing = [str(file) for file in paths_of(value) if not file.exists()]
            if missing and value == recorded.get(name):
                raise InputError(
                    f"{missing[0]}: no such file here; {path} records it, for a run that was started in a folder where "
                    f"it is: give --data.{name}, or start there"
                )

    def _check_data(self) -> None:
        """Read and tokenise the split that is used first: what is wrong with it is said before the run has a folder."""
        fits = self.subcommand == "fit"
        loader = self.datamodule.loader(_SPLITS[str(self.subcommand)][0], shuffle=fits)
        if fits:
            self._check_intervals(len(loader))

    def _check_checkpoint(self) -> None:
        """Say before the run has a folder that the labels of the checkpoint, or of a model as it is, are others."""
        path, name = self._options["ckpt_path"], self._options["model"]["model_name_or_path"]
        if path is not None:
            checkpoint = read_checkpoint(path)
            self.model.on_load_checkpoint(checkpoint)
            if self.subcommand == "fit":
                self._refuse_finished(path, checkpoint)
                self._refuse_other_epoch(path, checkpoint)
        elif self.subcommand != "fit":
            own = trained_labels(load_config(name, trust_remote_code=self.model.trust_remote_code))
            if own != self.model.labels:
                raise InputError(f"{name} was trained with the labels {own}, the data has {self.model.labels}")

    def _trainer_options(self) -> dict[str, Any]:
        """Options of the Trainer that follow from others, from the data, and from where it runs."""
        config = self._made["trainer"]
        options: dict[str, Any] = launched_processes(devices=config.devices, num_nodes=config.num_nodes)
        if self._own_log():
            options["logger"] = False  # a folder for it is made when nothing can be refused any more
        with_bar = any(isinstance(callback, ProgressBar) for callback in self._given_callbacks())
        if config.enable_progress_bar is None and not sys.stdout.isatty() and not with_bar:
            options["enable_progress_bar"] = False  # in a file it is a heap of control characters
        elif config.enable_progress_bar is not False and not with_bar and not config.barebones:
            self.trainer_defaults["callbacks"].append(SteadyProgressBar())
        if self.subcommand == "fit" and "validation" not in self.datamodule.corpus.splits:
            rank_zero_info("there is no validation split: nothing is scored, and the last epoch is kept")
            options["limit_val_batches"] = 0
        return options

    def _choose_callbacks(self, *, scored: bool) -> None:
        """Leave out what has no use in this run, and add what watches the learning rate."""
        config, callbacks = self._made["trainer"], self.trainer_defaults["callbacks"]
        callbacks.insert(0, self._made["checkpoint"].last)
        if self.subcommand != "fit":
            self.save_config_callback = None
        else:
            if self._own_log() and not config.fast_dev_run and not config.barebones:
                callbacks.append(LearningRateMonitor("step"))
            if not scored:
                self._made["checkpoint"].monitor = None
            if not scored or config.limit_val_batches == 0:
                refuse_to_wait_for_scores(self._given_callbacks())
        if config.enable_checkpointing is False:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
            callbacks[:] = [callback for callback in callbacks if not isinstance(callback, LastCheckpoint)]

    def _given_callbacks(self) -> list[Any]:
        given = self._made["trainer"].callbacks
        return given if isinstance(given, list) else [given]

    def _own_log(self) -> bool:
        return self._made["trainer"].logger in (None, True)

    def _refuse_finished(self, path: str, checkpoint: dict[str, Any]) -> None:
        config = self._made["trainer"]
        done = what_is_done(checkpoint, max_epochs=config.max_epochs, max_steps=config.max_steps)
        if done is not None:
            raise InputError(
                f"--ckpt_path={path}: the run has done {done}: there is nothing left to do; give more as "
                f"--trainer.max_{done.partition(' ')[2]}"
            )

    def _refuse_other_epoch(self, path: str, checkpoint: dict[str, Any]) -> None:
        if is_within_epoch(checkpoint) and "train" in self.datamodule.other_splits(checkpoint):
            raise InputError(
                f"--ckpt_path={path} was saved within an epoch of other training data: give that data, or a checkpoint "
                "from the end of an epoch, or start without --ckpt_path"
            )

    def _check_intervals(self, batches: int) -> None:
        """Refuse what Lightning would stumble over in the midst of a run."""
        config = self._made["trainer"]
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
            if (value := config[name]) is not None and value < 1:
                raise InputError(f"--trainer.{name}={value}: give a number from 1")
        interval = config.val_check_interval
        if isinstance(interval, int) and config.check_val_every_n_epoch is not None and interval > batches:
            raise InputError(
                f"--trainer.val_check_interval={interval}: an epoch has {batches} batches; with "
                "--trainer.check_val_every_n_epoch=null batches are counted over all epochs"
            )

    def _give_folder(self, trainer: Trainer) -> None:
        """Say where the run writes; last of all, when nothing can be refused any more.

        `fit` has a new folder, or goes on in that of the `last.ckpt` it was given, if its scores go on as well; a test
        belongs to the run that its checkpoint is of.
        """
        config, ckpt_path = self._made["trainer"], self._options.get("ckpt_path")
        if self.save_config_callback is not None and not config.fast_dev_run:
            going_on = None if ckpt_path is None else Path(ckpt_path)
            if going_on is not None and (other := self._other_scores(going_on)):
                rank_zero_info(
                    f"{other} than that of {going_on}: the run goes on in a new folder, with a best of its own"
                )
                going_on = None
            trainer.start_run(config.default_root_dir or ".", log=self._own_log(), going_on=going_on)
        elif self.subcommand in ("validate", "test") and ckpt_path is not None:
            trainer.run_dir = run_folder(Path(ckpt_path))

    def _other_scores(self, path: Path) -> str | None:
        """What keeps the scores from going on: neither a log nor a best checkpoint is to be of two kinds."""
        checkpoint = read_checkpoint(path)
        if self.datamodule.other_splits(checkpoint):
            return "other data"
        known = [key for key in checkpoint.get("callbacks", {}) if key.startswith(BestCheckpoint.__name__)]
        same = not known or self._made["checkpoint"].state_key in known
        return None if same else "another --checkpoint.monitor or mode"
