"""The LightningModule: an encoder with a head, one step shared by all stages, optimizer and schedule.

It takes batches as `encoding.Collator` makes them and gives (word, label) pairs to `EntityScore`.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.memory import is_oom_error
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from ner_lightning.attention import make_unpadded, run_unpadded
from ner_lightning.calibration import Calibration
from ner_lightning.casing import lower_case_ids
from ner_lightning.decoding import Decoding, Grammar, argmax, default_decoding, probabilities
from ner_lightning.embedding import CompactEmbedding, compact
from ner_lightning.encoding import Collator
from ner_lightning.errors import InputError
from ner_lightning.lora import Lora, add_adapters
from ner_lightning.metrics import EntityScore
from ner_lightning.partial_labels import marginal_losses
from ner_lightning.pretrained import head_parameters, load_token_classifier, load_tokenizer
from ner_lightning.products import onednn_products
from ner_lightning.seeding import seed_step
from ner_lightning.windows import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Batch = dict[str, Any]


class TokenClassificationModule(LightningModule):
    """Fine-tune a transformer to label words.

    Args:
        model_name_or_path: Hub id or folder of the encoder (or of a model that already classifies tokens), or
            `ner_lightning/quickstart`, the small configuration of the package.
        labels: Label names in the order of their ids.
        model_revision: Branch, tag or commit of the model.
        trust_remote_code: Run the code that comes with the model, where it needs it. Only the command line can say
            so, and each time anew: no config file and no checkpoint.
        keep_case: Let an uncased encoder of BERT's kind see upper case: spellings with it get embeddings of their own,
            which begin as those in lower case do. The table becomes three times as large.
        lowercase_ratio: Part of the training windows that are read in lower case, for text that has little upper case:
            with `keep_case`, or a model trained with it.
        pretrained: Load the weights; otherwise draw them at random for the same configuration.
        learning_rate: Peak of the learning rate.
        head_learning_rate: Peak of the learning rate of the classifier on top; by default `learning_rate`.
        weight_decay: Decay of AdamW, for all parameters but biases and norms.
        warmup_ratio: Part of all steps in which the learning rate rises from zero; after that it falls to zero.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, about a third slower.
        unpadded: Run the sub-words of a batch as one row, padded around attention alone: it pays only where the windows
            of a batch differ in length.
        freeze_embeddings: Do not train the embeddings.
        freeze_layers: Do not train this many of the lowest layers, nor the embeddings below them.
        lora: Train adapters of the encoder's linear layers, and the head, in place of all weights: their rank, or
            options such as `--model.lora.rank=16`. They want a learning rate some ten times as high, and the extra
            `lora` of this package.
        compact_embedding: Train only those rows of the embedding table whose sub-words occur in the training data, in
            less time and memory, to equal weights. In one process, with the optimizer of this class.
        onednn: Compute linear layers in float32 by oneDNN on processors that MKL is slow on (AMD with AVX-512): about
            twice as fast, equal to rounding.
        subword_weight: Weight in the training loss of a word's sub-words behind the first, with
            `--data.label_all_tokens`. A little is enough for `transformers.pipeline`, which reads all of them.
        terminate_on_nan: Stop at the first step whose loss is not finite; otherwise go on, as long as the weights are.
        decoding: Of the words of a sentence: `argmax`, the most probable label of each, or `constrained`, the most
            probable labels that are well-formed in IOB2 (Viterbi with fixed transitions, no weights), which is the
            default for labels that mark entities.
        score_mode: `default` reads ill-formed tag sequences as conlleval does; `strict` counts well-formed IOB2 only.

    Raises:
        InputError: The model cannot be loaded, or an option does not fit it.
    """

    def __init__(
        self,
        model_name_or_path: str = "bert-base-cased",
        *,
        labels: list[str],
        model_revision: str | None = None,
        trust_remote_code: bool = False,
        keep_case: bool = False,
        lowercase_ratio: float = 0.0,
        pretrained: bool = True,
        learning_rate: float = 2e-5,
        head_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.0,
        gradient_checkpointing: bool = False,
        unpadded: bool = False,
        freeze_embeddings: bool = False,
        freeze_layers: int = 0,
        lora: int | Lora | None = None,
        compact_embedding: bool = True,
        onednn: bool = True,
        subword_weight: float = 0.1,
        terminate_on_nan: bool = True,
        decoding: Decoding | None = None,
        score_mode: Literal["default", "strict"] = "default",
    ) -> None:
        super().__init__()
        for option, ratio, of in (
            ("warmup_ratio", warmup_ratio, "steps"),
            ("lowercase_ratio", lowercase_ratio, "training windows"),
        ):
            if not 0 <= ratio <= 1:
                raise InputError(f"--model.{option}={ratio}: give a part of all {of}, from 0 to 1")
        model_name_or_path = str(model_name_or_path)  # a checkpoint with a Path in it would not load
        for option, value in (
            ("learning_rate", learning_rate),
            ("head_learning_rate", head_learning_rate),
            ("weight_decay", weight_decay),
            ("subword_weight", subword_weight),
        ):
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--model.{option}={value}: give a number from 0")
        if decoding == "constrained" and (own_decode := self.own_decode) is not None:
            log.warning("--model.decoding=constrained: what %s gives is used as it is", own_decode.__qualname__)
        decoding = decoding or default_decoding(labels)
        self.save_hyperparameters(ignore=["trust_remote_code"])  # whoever loads the checkpoint decides for himself
        self.trust_remote_code = trust_remote_code
        self.labels = list(labels)
        self.learning_rate = learning_rate
        self.head_learning_rate = learning_rate if head_learning_rate is None else head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.compact_embedding = compact_embedding
        self.onednn = onednn
        self.subword_weight = subword_weight
        self.terminate_on_nan = terminate_on_nan
        self.model = load_token_classifier(
            model_name_or_path,
            labels=labels,
            pretrained=pretrained,
            revision=model_revision,
            trust_remote_code=trust_remote_code,
            keep_case=keep_case,
        )
        self.lowercase_ratio = lowercase_ratio
        self._lower_case_ids: Tensor | None = None  # no buffer, which several processes would send at each step
        if lowercase_ratio > 0:
            tokenizer = load_tokenizer(
                model_name_or_path,
                revision=model_revision,
                trust_remote_code=trust_remote_code,
                keep_case=keep_case,
            )
            self._lower_case_ids = lower_case_ids(tokenizer)
        if gradient_checkpointing:
            _recompute_activations(self.model, onednn=onednn)
        self._unpadded = unpadded and make_unpadded(self.model)
        _freeze(self.model.base_model, embeddings=freeze_embeddings or freeze_layers > 0, layers=freeze_layers)
        if lora is not None:
            add_adapters(self.model, lora)
        self.grammar = Grammar(labels) if decoding == "constrained" else None
        mend = self.grammar.mend if self.grammar and not self.own_decode else None
        # of the weights that were last validated; a model that is used as it was exported brings it along
        known = getattr(self.model.config, "calibration", None) if pretrained else None
        self.calibration: Calibration | None = Calibration(**known) if known else None
        self.val_score = EntityScore(labels, mode=score_mode, mend=mend, confidence="fit")
        self.test_score = EntityScore(labels, mode=score_mode, mend=mend, confidence="measure", interval=True)
        self._too_large = math.inf  # sub-words of the smallest batch that did not fit in memory in evaluation
        self._validated_at: int | None = None  # the step whose weights were last scored on all of the split

    def forward(self, batch: Batch) -> Any:
        """Run the transformer.

        Args:
            batch: As `encoding.Collator` makes it; only what the transformer takes is handed on.

        Returns:
            The model's output: `logits` (windows, length, labels) and `loss`, to be ignored where there are no labels
            to learn.
        """
        output = self._run(batch)
        output.loss = self.loss(batch, output.logits)
        return output

    def loss(self, batch: Batch, logits: Tensor) -> Tensor:
        """What training minimises: mean cross entropy over labelled sub-words. Override it for another loss.

        The first sub-word of a word has weight 1, the others `subword_weight`. Of a file that annotates some types only
        (`meant_by_o` in the batch), see `partial_labels`.

        Args:
            batch: As `encoding.Collator` makes it.
            logits: (windows, length, labels).
        """
        labels = batch["labels"].flatten()  # (windows * length,)
        losses = functional.cross_entropy(logits.flatten(0, 1).float(), labels, reduction="none")  # 0 without a label
        if (meant := batch.get("meant_by_o")) is not None:
            losses = marginal_losses(losses, logits=logits.float(), labels=batch["labels"], meant_by_o=meant)
        weights = torch.where(batch["word_index"].flatten() >= 0, 1.0, self.subword_weight) * (labels >= 0)
        loss: Tensor = (losses * weights).sum() / weights.sum()
        return loss

    def decode(self, batch: Batch, logits: Tensor) -> Tensor:
        """Choose a label at each position, as `decoding` says. Override it for another one, whatever `decoding` is.

        All stages use it, with whole windows.

        Args:
            batch: As `encoding.Collator` makes it; a word is read where `word_index` is not negative.
            logits: (windows, length, labels).

        Returns:
            Label ids, (windows, length).
        """
        return self.grammar.decode(batch, logits) if self.grammar else argmax(batch, logits)

    @property
    def own_decode(self) -> Callable[[Batch, Tensor], Tensor] | None:
        """The decoding of a subclass; None where it is that of this class."""
        return None if type(self).decode is TokenClassificationModule.decode else self.decode

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let the randomness of the step (dropout) depend on the seed and on the step alone, for an exact resume."""
        seed_step(step=self.trainer.global_step, batch_idx=batch_idx, rank=self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch.

        Raises:
            InputError: It is not finite.
        """
        if self._lower_case_ids is not None:
            input_ids = batch["input_ids"]
            self._lower_case_ids = self._lower_case_ids.to(input_ids.device)
            lowered = torch.rand(len(input_ids), 1, device=input_ids.device) < self.lowercase_ratio  # (windows, 1)
            batch = batch | {"input_ids": self._lower_case_ids[input_ids].where(lowered, input_ids)}
        loss: Tensor = self(batch).loss
        # a GPU would have to wait for each loss; once weights are not finite, no later loss is
        every = 1 if self.device.type == "cpu" else max(1, self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if self.terminate_on_nan and batch_idx % every == 0 and not loss.isfinite():
            raise InputError(f"the training loss is {loss.item()} {self._diverged()}")
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the words of a batch."""
        self._score(batch, self.val_score)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the words of a batch."""
        self._score(batch, self.test_score)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Label the words of a batch.

        Args:
            batch: As `encoding.Collator` makes it.
            batch_idx: Not used.

        Returns:
            Positions of the words in their split, their label ids (with `constrained` to be mended by `self.grammar`
            where a sentence spans windows), and how probable these are (float32), all (words,).
        """
        word_index, label_ids, logits = self._words(batch)
        temperature = self.calibration.temperature if self.calibration else 1.0
        return word_index, label_ids, probabilities(logits, label_ids, temperature=temperature)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation split."""
        whole = is_whole(self.trainer.limit_val_batches) and not self.trainer.sanity_checking
        self._log_scores(self.val_score, "val", whole=whole)
        self._validated_at = self.trainer.global_step if whole else None
        if whole:
            self.calibration = self.val_score.calibration

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test split."""
        self.test_score.calibration = self.calibration
        self._log_scores(self.test_score, "test", whole=is_whole(self.trainer.limit_test_batches))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, and a learning rate that rises for `warmup_ratio` of all steps and then falls to zero."""
        from transformers import get_linear_schedule_with_warmup

        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise InputError("the learning rate falls to zero over all steps: give --trainer.max_epochs or max_steps")
        embedding = self._compact_embedding()
        optimizer = torch.optim.AdamW(
            self._parameter_groups(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            fused=self._fused(),
        )
        if embedding is not None:
            embedding.attach(optimizer)
        schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(steps * self.warmup_ratio), int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Step, and let go of the gradients at once: Lightning would keep them through the next forward pass."""
        super().optimizer_step(epoch, batch_idx, optimizer, *args, **kwargs)
        optimizer.zero_grad()

    def on_fit_end(self) -> None:
        """Leave an ordinary embedding."""
        self._restore_embedding()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the Trainer says, with bfloat16 too; on a processor without a pass where the norm is small enough.

        Lightning refuses to clip for fused optimizers in mixed precision, since their gradients may still be scaled.
        With bfloat16 nothing is scaled.
        """
        precision, limit = self.trainer.precision_plugin, gradient_clip_val or 0.0
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
        unscaled = isinstance(precision, MixedPrecision) and precision.scaler is None
        plain = self.device.type == "cpu" and (unscaled or type(precision) is Precision)
        if plain and algorithm == GradClipAlgorithmType.NORM and limit > 0:
            parameters = list(precision.main_params(optimizer))
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if norm + 1e-6 > limit:  # below, PyTorch multiplies all gradients by 1
                nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        elif unscaled:
            Precision.clip_gradients(precision, optimizer, limit, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the scores with the weights that were scored, and the name of a decoding of a subclass.

        Raises:
            InputError: A weight is not finite: such a model is not kept.
        """
        for name, weights in checkpoint["state_dict"].items():
            if weights.is_floating_point() and not weights.isfinite().all():
                raise InputError(f"the weights of {name} are not finite {self._diverged()}")
        if self.own_decode:
            checkpoint["decode"] = f"{self.own_decode.__module__}.{self.own_decode.__qualname__}"
        if self._validated_at == self.trainer.global_step:
            metrics = self.trainer.callback_metrics.items()
            checkpoint["validation_scores"] = {name: float(n) for name, n in metrics if name.startswith("val_")}
            if self.calibration:
                checkpoint["calibration"] = asdict(self.calibration)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint with other labels or of another model, before any weight is loaded."""
        theirs = checkpoint.get("hyper_parameters", {}).get("labels")
        if theirs != self.labels:
            raise InputError(
                f"the checkpoint was trained with the labels {theirs}, the data has {self.labels}: names and order "
                "must agree; give the data that it was trained on, or its list as --data.labels"
            )
        weights = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
        own = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if weights != own:
            other = sorted(set(weights.items()) ^ set(own.items()))[0][0]
            raise InputError(
                f"the checkpoint is of another model: it was trained from "
                f"{checkpoint['hyper_parameters'].get('model_name_or_path')}, this one is "
                f"{self.hparams['model_name_or_path']}, and {other} differs"
            )
        saved = checkpoint.get("calibration")
        self.calibration = Calibration(**saved) if saved else None

    def _diverged(self) -> str:
        kept = (c.best_model_path for c in self.trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))
        last = next((path for path in kept if Path(path).is_file()), None)
        return (
            f"at step {self.trainer.global_step}: training has diverged, and this state is not kept; try a smaller "
            "--model.learning_rate, --model.warmup_ratio=0.1, --trainer.gradient_clip_val=1.0 or another "
            f"--trainer.precision; {f'{last} is the last good checkpoint' if last else 'nothing was saved before'}"
        )

    def _run(self, batch: Batch) -> Any:
        # no token_type_ids: a window is one segment, which is what every model assumes without them
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with onednn_products(wanted=self.onednn):
            return run_unpadded(self.model, **inputs) if self._unpadded else self.model(**inputs)

    def _score(self, batch: Batch, score: EntityScore) -> None:
        word_index, predictions, logits = self._words(batch)
        scored = batch["word_index"] >= 0  # (windows, length)
        targets = batch["labels"][scored]
        units = {name: batch[name][scored] for name in ("sentence_index", "document_index")}
        score.update(word_index, predictions, targets, **units, num_words=batch["num_words"], logits=logits)

    def _words(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, label ids and logits (words, labels) of the words scored here, at their first sub-words.

        A batch that does not fit in memory is halved, and so is each later one that is as large.
        """
        windows, length = batch["input_ids"].shape
        if windows == 1 or windows * length < self._too_large:
            try:
                logits, scored = self._run(batch).logits, batch["word_index"] >= 0
                return batch["word_index"][scored], self.decode(batch, logits)[scored], logits[scored]
            except RuntimeError as error:
                if windows == 1 or not (isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)):
                    raise
            # not within `except`: there the traceback still holds the tensors
            self._too_large = windows * length
            log.warning(
                "a batch of %d windows of %d sub-words does not fit in memory: such batches are halved from here on; "
                "--data.eval_max_tokens=%d does without the attempts",
                windows,
                length,
                self._too_large // 2,
            )
        size = -(-windows // 2)
        parts = {name: torch.split(values, size) for name, values in batch.items() if isinstance(values, Tensor)}
        halves = [batch | dict(zip(parts, half, strict=True)) for half in zip(*parts.values(), strict=True)]
        word_index, label_ids, logits = (torch.cat(pair) for pair in zip(*map(self._words, halves), strict=True))
        return word_index, label_ids, logits

    def _log_scores(self, score: EntityScore, stage: str, *, whole: bool) -> None:
        score.allow_missing = not whole
        scores = score.compute()
        score.reset()
        for name, value in scores.items():
            # every process has computed the same number from all words; the mean of three may differ by rounding
            self.log(f"{stage}_{name}", value, prog_bar=name == "f1", sync_dist=True, reduce_fx="max")

    def _parameter_groups(self) -> list[dict[str, Any]]:
        head = {name for name, _ in head_parameters(self.model)}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                decays = parameter.ndim > 1  # biases and norms are the vectors
                groups.setdefault((name in head, decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.head_learning_rate if is_head else self.learning_rate,
                "weight_decay": self.weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in groups.items()
        ]

    def _compact_embedding(self) -> CompactEmbedding | None:
        """Train only the rows that the training data needs, where it is known which these are."""
        trainer, loader = self.trainer, self.trainer.train_dataloader
        self._restore_embedding()  # after a run that ended early
        own = type(self).configure_optimizers is TokenClassificationModule.configure_optimizers
        # other strategies, and these callbacks, have taken the parameters as they were before
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        copied = any(isinstance(callback, WeightAveraging | StochasticWeightAveraging) for callback in callbacks)
        if not (self.compact_embedding and own and type(trainer.strategy) is SingleDeviceStrategy) or copied:
            return None
        changes = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if changes or not isinstance(loader, DataLoader):
            return None
        windows, collator = loader.dataset, loader.collate_fn
        if not isinstance(windows, Windows) or not isinstance(collator, Collator):
            return None
        used = torch.from_numpy(windows.distinct_ids(and_id=collator.pad_token_id))
        if self._lower_case_ids is not None:
            used = torch.unique(torch.cat([used, self._lower_case_ids.cpu()[used]]))
        return compact(self.model, used, within=self)

    def _restore_embedding(self) -> None:
        embedding = self.model.get_input_embeddings()
        if isinstance(embedding, CompactEmbedding):
            self.model.set_input_embeddings(embedding.whole())

    def _fused(self) -> bool:
        # a fused optimizer undoes the scaling of fp16 in its step, after the gradients were clipped
        return self.device.type in ("cuda", "cpu") and self.trainer.precision != "16-mixed"


def is_whole(limit: float) -> bool:
    """Whether a limit on batches leaves none out.

    Args:
        limit: As the Trainer has it: to Lightning 1 is one batch, and 1.0 is all of them.
    """
    return isinstance(limit, float) and limit == 1.0


def _recompute_activations(model: "PreTrainedModel", *, onednn: bool) -> None:
    if not model.supports_gradient_checkpointing:
        raise InputError(f"--model.gradient_checkpointing: {type(model).__name__} cannot do it; leave it out")
    # newer releases of transformers warn of the old name, older ones do not know the new one
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    # the reentrant kind loses the gradients of layers above frozen embeddings; what is computed twice is so in one way
    products = partial(onednn_products, wanted=onednn)
    enable({"use_reentrant": False, "context_fn": lambda: (products(), products())})


def _freeze(encoder: "PreTrainedModel", *, embeddings: bool, layers: int) -> None:
    if embeddings:
        words = encoder.get_input_embeddings()
        # with the positions and the norm that stand in one block with them
        block = next(child for child in encoder.children() if any(module is words for module in child.modules()))
        block.requires_grad_(False)
    if not layers:
        return
    depth = encoder.config.num_hidden_layers
    stack = next((m for m in encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None)
    if stack is None or not 0 < layers <= depth:
        found = f"{depth} layers" if stack is not None else "no list of layers"
        raise InputError(f"--model.freeze_layers={layers}: the model has {found} to freeze")
    for layer in list(stack)[:layers]:
        layer.requires_grad_(False)
