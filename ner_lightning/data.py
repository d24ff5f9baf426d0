"""The LightningDataModule: from a corpus to ready loaders of padded batches, for any labels on words.

It joins `corpus` (rows), `pretrained` (tokenizer), `encoding` (windows) and `sampling` (order of the batches). The
model takes `labels` from it and batches, nothing else.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ner_lightning.cache import cached_file, content_key
from ner_lightning.checkpoints import data_state
from ner_lightning.corpus import Corpus, load_corpus, paths_of
from ner_lightning.encoding import OF_DOCUMENTS, Collator, Context, Encoder
from ner_lightning.errors import InputError
from ner_lightning.hardware import inference_tokens
from ner_lightning.loading import ResumableLoader
from ner_lightning.notebook import Description
from ner_lightning.partial_labels import in_words, meant_by_o
from ner_lightning.pretrained import load_config, load_tokenizer, window_length
from ner_lightning.readers import ReadOptions, read_label_names
from ner_lightning.readers.formats import Format
from ner_lightning.sampling import LengthBatchSampler
from ner_lightning.tags import Scheme
from ner_lightning.windows import Windows, read_windows, write_windows

if TYPE_CHECKING:
    from datasets import Dataset

Split = Literal["train", "validation", "test"]

_MULTIPLE = 8  # to which windows are padded for the matrix units of a GPU

# No `from __future__ import annotations` here and in `model`: jsonargparse would run the imports under TYPE_CHECKING to
# understand the types, and `--help` would take as long as transformers takes to import.


class TokenClassificationDataModule(LightningDataModule):
    """Words with labels, from files or the Hub, as batches for a token classifier.

    Args:
        dataset_name: Hub dataset id, `ner_lightning/quickstart` (the sample corpus of the package), or a folder: with
            train, validation and test files, a snapshot of a Hub dataset, or what `save_to_disk` wrote.
        dataset_config_name: Configuration of the Hub dataset or of its snapshot, where it has several.
        dataset_revision: Branch, tag or commit of the Hub dataset; the commit that is loaded is recorded.
        train_file: Training data, one file or several, `~` included: CoNLL columns, CoNLL-U, JSON with words and tags
            or with text and entities (also of Label Studio), CSV or TSV with a header, parquet, or a folder of brat.
            Any file given here replaces `dataset_name`.
        validation_file: Validation data, like `train_file`.
        test_file: Test data, like `train_file`.
        validation_split: Share of the training data, such as 0.1, that becomes the validation split where none is
            given: whole documents, or sentences where there are no documents; `seed` decides which.
        train_fraction: Train on this share of the training data, likewise drawn; a smaller one is a part of it.
        format: What is in the files; by default their suffix and their first lines tell.
        text_column_name: Column or field of the words or the text: its number in CoNLL files (first: 0), its name
            elsewhere (`tokens`, `text`, in tables with one word a row `word` or `token`).
        label_column_name: Column or field of the tags or entities: its number in CoNLL files (last: -1), its name
            elsewhere (`ner_tags`, `tags`, `labels`; `entities`, `spans`, `label`).
        sentence_column_name: In tables with one word a row, the column that tells sentences apart (`sentence_id`).
        comment_prefix: In CoNLL files, lines that begin with it are comments; by default there are none.
        span_alignment: Of an entity with character offsets whose border lies inside a word: `strict` refuses it,
            `expand` widens it to the whole word.
        overlapping: Of entities that share a word: `refuse` them, or keep the `longest`.
        split_at: Where a text is parted into words: at white space, punctuation marks and Chinese characters
            (`punctuation`), or at white space alone (`spaces`).
        annotator: Whose annotations are read from Label Studio: an id or e-mail address; by default the first ones of
            each text that were not cancelled.
        labels: Label names in the order of their ids, or a file of them (`label.json`, or one a line); by default those
            of the training data, `O` first, then by type, `B-` before `I-`. `all` takes those of validation and test,
            too.
        scheme: How the tags mark entities; found in the training data where possible. `plain` for words that carry
            labels and no entities (POS). Whatever the source has, IOB2 is what is learnt.
        entity_type: Type of all entities, for tags that name none (`O`, `B`, `I`; by default `ENTITY`), and for
            entities with offsets that name none.
        annotated_types: Training files that do not annotate all types, each with those that it does:
            `{people.conll: [PER]}`. An `O` there means none of these, and is no word against the others; a file that is
            not named annotates all types. Validation and test data must annotate all.
        model_name_or_path: Hub id or folder of the model, whose tokenizer is used.
        model_revision: Branch, tag or commit of the model.
        trust_remote_code: Run the code that comes with the model, where it needs it.
        keep_case: Let the tokenizer of an uncased encoder keep upper case, as `--model.keep_case` does.
        max_seq_length: Sub-words in a window, special tokens included; by default as many as the model takes.
            Longer sentences are cut into overlapping windows and every word is still scored once.
        context: What a window holds: one `sentence`; as many of a `document` as there is room for, with the tokenizer's
            separator between them; of a `file`, in its order; or one sentence `centred` among its neighbours in the
            document, at several times the cost. `predict` does the same.
        label_all_tokens: Train on every sub-word of a word (continuation sub-words as `I-`, with
            `--model.subword_weight`), not only on the first. Scores read the first one in both cases;
            `transformers.pipeline` reads all of them, and with `simple` finds pieces of entities where the others were
            not trained.
        batch_size: Windows in a training batch, per device; by default 8, unless `max_tokens` is given.
        max_tokens: In place of `batch_size`, sub-words in a training batch, per device: its windows times the longest
            of them, up to a multiple of 8. A longer window is a batch alone.
        eval_batch_size: In place of `eval_max_tokens`, windows in a batch of validation and test, per device.
        eval_max_tokens: Sub-words in a batch of validation and test, like `max_tokens`; by default 1024, where there is
            a GPU 8192, unless `eval_batch_size` is given.
        num_workers: Processes that load batches beside the main one.
        pin_memory: Load batches into pinned memory; by default where there is a GPU.
        seed: Decides, with the epoch, the order of the training batches; by default the one of `--seed_everything`.

    Raises:
        InputError: An option is out of its range. What is wrong with the data is said where the data is first needed.
    """

    def __init__(
        self,
        *,
        dataset_name: str | None = None,
        dataset_config_name: str | None = None,
        dataset_revision: str | None = None,
        train_file: list[str] | str | None = None,
        validation_file: list[str] | str | None = None,
        test_file: list[str] | str | None = None,
        validation_split: float | None = None,
        train_fraction: float = 1.0,
        format: Format | None = None,
        text_column_name: int | str | None = None,
        label_column_name: int | str | None = None,
        sentence_column_name: str | None = None,
        comment_prefix: str = "",  # not None, as which `#` alone would be read
        span_alignment: Literal["strict", "expand"] = "strict",
        overlapping: Literal["refuse", "longest"] = "refuse",
        split_at: Literal["punctuation", "spaces"] = "punctuation",
        annotator: int | str | None = None,
        labels: list[str] | str | None = None,
        scheme: Scheme | None = None,
        entity_type: str | None = None,
        annotated_types: dict[str, list[str]] | None = None,
        model_name_or_path: str = "bert-base-cased",
        model_revision: str | None = None,
        trust_remote_code: bool = False,
        keep_case: bool = False,
        max_seq_length: int | None = None,
        context: Context = "sentence",
        label_all_tokens: bool = False,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        eval_batch_size: int | None = None,
        eval_max_tokens: int | None = None,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        _check_limits("batch_size", batch_size, "max_tokens", max_tokens)
        _check_limits("eval_batch_size", eval_batch_size, "eval_max_tokens", eval_max_tokens)
        if num_workers < 0:
            raise InputError(f"--data.num_workers={num_workers}: give 0 or more processes")
        if validation_split is not None and not 0 < validation_split < 1:
            raise InputError(f"--data.validation_split={validation_split}: give a share between 0 and 1, such as 0.1")
        if not 0 < train_fraction <= 1:
            raise InputError(f"--data.train_fraction={train_fraction}: give a share above 0 and up to 1, such as 0.1")
        drawn = "validation_split" if validation_split is not None else "train_fraction" if train_fraction < 1 else None
        if context == "file" and drawn:
            raise InputError(
                f"--data.context=file and --data.{drawn}: where sentences are drawn, the others are no "
                "neighbours; give --data.validation_file, or documents and --data.context=document"
            )
        self._labels = labels
        self._rows: dict[str, Sequence[dict[str, Any]] | Dataset] = {}
        self.dataset_name = dataset_name
        self.dataset_config_name = dataset_config_name
        self.dataset_revision = dataset_revision
        self.train_file = train_file
        self.validation_file = validation_file
        self.test_file = test_file
        self.validation_split = validation_split
        self.train_fraction = train_fraction
        self.text_column_name = text_column_name
        self.read_options = ReadOptions(
            format=format,
            text_column_name=text_column_name,
            label_column_name=label_column_name,
            sentence_column_name=sentence_column_name,
            comment_prefix=comment_prefix,
            span_alignment=span_alignment,
            overlapping=overlapping,
            split_at=split_at,
            annotator=annotator,
            entity_type=entity_type,
        )
        self.scheme = scheme
        self.annotated_types = annotated_types
        self.model_name_or_path = str(model_name_or_path)
        self.model_revision = model_revision
        self.trust_remote_code = trust_remote_code
        self.keep_case = keep_case
        self.max_seq_length = max_seq_length
        self.context = context
        self.label_all_tokens = label_all_tokens
        self.batch_size = 8 if batch_size is None and max_tokens is None else batch_size
        self.max_tokens = max_tokens
        self.eval_batch_size = eval_batch_size
        self.eval_max_tokens = (
            inference_tokens() if eval_batch_size is None and eval_max_tokens is None else eval_max_tokens
        )
        self.num_workers = num_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.seed = seed
        # the labels are recorded by the model, and Lightning wants one value a name; trust is not recorded at all
        self.save_hyperparameters(ignore=["labels", "trust_remote_code"])
        # a checkpoint with a Path in it would not load
        self.hparams.update({name: _recorded(value) for name, value in self.hparams.items()})
        self._epoch = 0  # of the checkpoint that a run goes on from
        self._encoded: dict[str, tuple[Windows, int]] = {}

    @classmethod
    def from_rows(
        cls,
        *,
        train: "Sequence[dict[str, Any]] | Dataset | None" = None,
        validation: "Sequence[dict[str, Any]] | Dataset | None" = None,
        test: "Sequence[dict[str, Any]] | Dataset | None" = None,
        **options: Any,
    ) -> Self:
        """Make a datamodule of rows in memory, as notebooks have them.

        Args:
            train: Dicts like the objects of a JSON file: `tokens` and `ner_tags`, or `text` and `entities`; or a
                `datasets.Dataset` with such columns.
            validation: The same for validation.
            test: The same for test.
            options: Those of the class; a file for a split that is not given here is read, too.
        """
        data = cls(**options)
        given = {"train": train, "validation": validation, "test": test}
        data._rows = {split: rows for split, rows in given.items() if rows is not None}
        return data

    @property
    def labels(self) -> list[str]:
        """Label names in the order of their ids; reads the corpus at the first call."""
        return self.corpus.labels

    @cached_property
    def _given_labels(self) -> list[str] | Literal["all"] | None:
        """The labels that were given, read where they stand in a file."""
        if self._labels == "all":
            return "all"
        if isinstance(self._labels, str):
            return list(read_label_names(paths_of(self._labels)[0]))
        return self._labels

    @cached_property
    def corpus(self) -> Corpus:
        """The rows of each split, and where they came from."""
        return load_corpus(
            dataset_name=self.dataset_name,
            dataset_config_name=self.dataset_config_name,
            dataset_revision=self.dataset_revision,
            train_file=self.train_file,
            validation_file=self.validation_file,
            test_file=self.test_file,
            rows=self._rows,
            options=self.read_options,
            labels=self._given_labels,
            scheme=self.scheme,
            annotated_types=self.annotated_types,
            validation_split=self.validation_split,
            train_fraction=self.train_fraction,
            seed=self._seed(),
        )

    @cached_property
    def encoder(self) -> Encoder:
        """What turns words into windows; loads the tokenizer at the first call."""
        name, revision, trust = self.model_name_or_path, self.model_revision, self.trust_remote_code
        tokenizer = load_tokenizer(name, revision=revision, trust_remote_code=trust, keep_case=self.keep_case)
        config = load_config(name, revision=revision, trust_remote_code=trust)
        return Encoder(
            tokenizer,
            labels=self.labels,
            max_seq_length=window_length(tokenizer, config, asked=self.max_seq_length),
            label_all_tokens=self.label_all_tokens,
            context=self.context,
        )

    def prepare_data(self) -> None:
        """Tokenise all splits, once; the result is cached by content.

        Asking for `labels`, as the command line does to make the model, has read the corpus before.
        """
        for split in self.corpus.splits:
            self._encode(split)

    def setup(self, stage: str | None = None) -> None:
        """Open the windows, in each process.

        Args:
            stage: Not used: all splits that there are are opened.
        """
        self.prepare_data()

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of windows of similar length."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Batches of the validation split, longest first; `fit` goes without where there is no such split."""
        fits = self.trainer is not None and self.trainer.state.fn == "fit"
        return [] if fits and "validation" not in self.corpus.splits else self.loader("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split, longest first."""
        return self.loader("test")

    def loader(self, split: Split, *, shuffle: bool = False) -> DataLoader[Any]:
        """Padded batches of a split, as `encoding.Collator` makes them.

        Args:
            split: Which one.
            shuffle: Training order, another one in each epoch, in batches of `batch_size` or `max_tokens`; otherwise
                longest first, in batches of `eval_max_tokens` or `eval_batch_size`.

        Raises:
            InputError: There is no such split.
        """
        if split not in self.corpus.splits:
            raise InputError(
                f"there is no {split} split: give --data.{split}_file, or a --data.dataset_name that has one"
            )
        windows, num_words = self._encode(split)
        trainer = self.trainer
        if trainer is not None and trainer.overfit_batches:  # type: ignore[attr-defined]
            raise InputError("--trainer.overfit_batches would replace the sampler: use --trainer.limit_train_batches")
        sampler = LengthBatchSampler(
            windows.lengths,
            batch_size=self.batch_size if shuffle else self.eval_batch_size,
            max_tokens=self.max_tokens if shuffle else self.eval_max_tokens,
            multiple=_MULTIPLE,  # of a GPU, here too: the order does not depend on the device
            shuffle=shuffle,
            seed=self._seed(),
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
        )
        annotated = self.corpus.annotated if split == "train" else []
        # workers are asked for the first batches of a resumed run before Lightning tells the sampler the epoch
        sampler.set_epoch(max(self._epoch, _epochs_done(trainer)) if shuffle else 0)
        return ResumableLoader(
            windows,  # type: ignore[arg-type] # takes whatever has a length and gives what it is asked for
            sampler=sampler,  # yields whole batches, see LengthBatchSampler
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
            collate_fn=Collator(  # type: ignore[arg-type] # takes `Windows`, not a list
                num_words=num_words,
                pad_token_id=self.encoder.tokenizer.pad_token_id or 0,
                multiple=_MULTIPLE if torch.cuda.is_available() else 1,
                max_seq_length=self.encoder.max_seq_length,
                meant_by_o=np.array(meant_by_o(self.labels, annotated)) if annotated else None,
            ),
        )

    def other_splits(self, checkpoint: dict[str, Any]) -> set[str]:
        """The splits, of training and validation, that a run had with other content up to a checkpoint.

        Args:
            checkpoint: Its content; older ones do not tell.
        """
        before, now = data_state(checkpoint).get("content"), self._content()
        return set() if before is None else {split for split in before | now if before.get(split) != now.get(split)}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint records of the data: epoch, commit, labels that were given, seed, what it stands for."""
        return {
            "epoch": _epochs_done(self.trainer),
            "dataset_commit": self.corpus.commit,
            # the list itself: a later test may have other splits
            "given_labels": self.corpus.labels if self._given_labels == "all" else self._given_labels,
            "seed": self._seed(),
            "content": self._content(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the order of the epoch that a checkpoint was saved in.

        Args:
            state_dict: What `state_dict` returned.
        """
        self._epoch = state_dict.get("epoch", 0)

    def describe(self) -> Description:
        """What one wants to see first of a corpus.

        Returns:
            `source`: where it came from; `splits`: sentences, words, windows and longest sentence of each; `labels`:
            how often each label occurs, by split; `first_row`: words and labels of the first sentence that has words;
            `alignment`: that sentence sub-word by sub-word, with the label that each sub-word is trained on.
        """
        import pyarrow.compute as pc

        splits, counts = {}, {}
        for split, rows in self.corpus.splits.items():
            windows, words = self._encode(split)
            splits[split] = {
                "sentences": len(rows),
                "words": words,
                "documents": pc.count_distinct(rows.data.column("document_id")).as_py(),
                "windows": len(windows),
                "longest": pc.max(pc.list_value_length(rows.data.column("tokens"))).as_py() or 0,
            }
            tags = (chunk.flatten().to_numpy() for chunk in rows.data.column("tags").chunks)
            zeros = np.zeros(len(self.labels), dtype=np.int64)
            counts[split] = sum((np.bincount(chunk, minlength=len(zeros)) for chunk in tags), start=zeros).tolist()
        labels = {label: {split: counts[split][number] for split in counts} for number, label in enumerate(self.labels)}
        first = next((row for row in self.corpus.splits[next(iter(counts))] if row["tokens"]), None)
        told = {
            "source": {
                "dataset": self.dataset_name if self.corpus.commit else None,
                "commit": self.corpus.commit,
                "files": None if self.corpus.commit else self._files(),
                "scheme": self.corpus.scheme,
                "annotated_types": in_words(self.annotated_types) if self.annotated_types else None,
                "tokenizer": self.model_name_or_path,
                "max_seq_length": self.encoder.max_seq_length,
            },
            "splits": splits,
            "labels": labels,
            "first_row": {
                "tokens": first["tokens"],
                "labels": [self.labels[tag] for tag in first["tags"]],
            }
            if first
            else None,
            "alignment": self.encoder.align(first["tokens"], first["tags"]) if first else [],
        }
        return Description(told)

    def _files(self) -> str | None:
        """What the corpus is read from."""
        files = [
            str(path) for given in (self.train_file, self.validation_file, self.test_file) for path in paths_of(given)
        ]
        return ", ".join([*files, *(f"{split} rows in memory" for split in self._rows)]) or self.dataset_name

    def _refuse_without_documents(self) -> None:
        import pyarrow.compute as pc

        column = self.corpus.splits["train"].data.column("document_id")
        if pc.count_distinct(column).as_py() in (1, len(column)):
            raise InputError(
                f"--data.context={self.context}: the training data has no documents (-DOCSTART- lines, a document_id); "
                "--data.context=file takes neighbouring sentences in the order of the file"
            )

    def _content(self) -> dict[str, str | None]:
        """What stands for the content of the splits that a run depends on."""
        splits = [split for split in ("train", "validation") if split in self.corpus.splits]
        return {split: self._encode(split)[0].digest for split in splits}

    def _seed(self) -> int:
        # --seed_everything leaves its number there, for Lightning's own samplers too
        return int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed

    def _encode(self, split: str) -> tuple[Windows, int]:
        """The windows of a split, from the cache where they have been made before, and its number of words."""
        if split in self._encoded:
            return self._encoded[split]
        import pyarrow.compute as pc

        rows, encoder = self.corpus.splits[split], self.encoder

        if self.context in OF_DOCUMENTS and split == "train":
            self._refuse_without_documents()

        def parts() -> Iterator[Windows]:
            word = sentence = 0
            waiting: list[tuple[list[str], list[int], int, int]] = []  # of a passage whose end is not known yet
            # None: not in a file, where a bar is a heap of control characters, but in a notebook
            with tqdm(total=len(rows), desc=f"tokenising {split}", disable=None) as bar:
                for batch in rows.with_format("arrow").iter(1000):
                    names = ("tokens", "tags", "document_id", "source_id")
                    waiting += zip(*(batch[name].to_pylist() for name in names), strict=True)
                    bar.update(len(batch))
                    last = sentence + len(waiting) == len(rows)
                    documents = np.array([document for _, _, document, _ in waiting])
                    sources = np.array([source for *_, source in waiting])
                    count = len(waiting) if last else encoder.whole_passages(documents, sources)
                    words, tags, _, _ = zip(*waiting[:count], strict=True) if count else ((), (), (), ())
                    yield encoder.encode(
                        words,
                        tags,
                        documents=documents[:count],
                        sources=sources[:count],
                        first_word=word,
                        first_sentence=sentence,
                    )
                    word += sum(map(len, words))
                    sentence += count
                    del waiting[:count]

        key = content_key(rows._fingerprint, encoder.fingerprint())  # for which `datasets` has no public name
        windows = read_windows(cached_file(key, lambda path: write_windows(path, parts())))
        self._encoded[split] = (windows, pc.sum(pc.list_value_length(rows.data.column("tokens"))).as_py() or 0)
        return self._encoded[split]


def _recorded(value: Any) -> Any:
    if isinstance(value, dict):
        return {_recorded(name): item for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _check_limits(windows: str, batch_size: int | None, tokens: str, max_tokens: int | None) -> None:
    if batch_size is not None and max_tokens is not None:
        raise InputError(
            f"--data.{windows}={batch_size} and --data.{tokens}={max_tokens}: give one of them; --data.{windows}=null "
            "takes back what a config file or a checkpoint gives"
        )
    for option, value in ((windows, batch_size), (tokens, max_tokens)):
        if value is not None and value < 1:
            raise InputError(f"--data.{option}={value}: a batch holds at least one window")


def _epochs_done(trainer: Trainer | None) -> int:
    # what Lightning gives to samplers; `current_epoch` is one behind while the end of an epoch is saved
    return trainer.fit_loop.epoch_progress.current.processed if trainer else 0  # type: ignore[attr-defined]
