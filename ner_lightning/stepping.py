"""Where a run may stop and go on: between two steps, when all of the first one is done, validated and logged.

Lightning's last hook of a step comes before its row in the log and before the validation that may follow it. A
checkpoint from there goes on without either.
"""

from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop


class BetweenSteps(Callback):
    """A callback with a hook more."""

    def between_steps(self, trainer: Trainer) -> None:
        """Called after each step of the optimizer but the last of an epoch, which `on_train_epoch_end` is for."""
        raise NotImplementedError


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with the hook `between_steps`."""

    _between_steps = False  # where this process is, or where the checkpoint was saved that it goes on from

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Validate and log as Lightning does, then call the hook."""
        was_done, self._between_steps = self._skip_next_val and self._between_steps, False
        if was_done:  # before the checkpoint was saved that this run goes on from
            self._skip_next_val = False
            return
        super().on_advance_end(data_fetcher)
        if self._should_accumulate() or self._num_ready_batches_reached():
            return
        self._between_steps = True
        for callback in self.trainer.callbacks:
            if isinstance(callback, BetweenSteps):
                callback.between_steps(self.trainer)
        self._between_steps = False

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Note whether the step is done: at the end of a validation it is not."""
        return super().on_save_checkpoint() | {"between_steps": self._between_steps}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        super().on_load_checkpoint(state_dict)
        self._between_steps = state_dict.get("between_steps", False)


class FitLoop(_FitLoop):
    """Lightning's loop over epochs, which goes on where it was in three cases in which Lightning's does not."""

    def setup_data(self) -> None:
        """Make the loader; let it go on where it was, too, where a schedule has asked for its length before."""
        super().setup_data()
        if self.restarting and self._combined_loader_states_to_load and self._data_fetcher is not None:
            self._load_combined_loader_states()
            iter(self._data_fetcher)

    def _load_combined_loader_states(self) -> None:
        if self.restarting and self._combined_loader is not None:
            for state in self._combined_loader_states_to_load:
                self._share_out(state)
        super()._load_combined_loader_states()

    def _share_out(self, state: dict[str, Any]) -> None:
        """Let another number of processes go on within an epoch, where a step has the batches that it had before."""
        before, now = state.get("num_replicas"), self.trainer.world_size
        steps = self.epoch_loop.automatic_optimization.optim_progress.optimizer.step.current.completed
        position = steps * self.trainer.accumulate_grad_batches
        if before in (None, now) or position * now != state["position"] * before:
            return  # the sampler refuses it
        progress = self.epoch_loop.batch_progress.current
        more = position - progress.ready
        for name, count in vars(progress).items():
            setattr(progress, name, count + more)
        state |= {"position": position, "num_replicas": now}

    def _iteration_based_training(self) -> bool:
        return False  # where it is true (`max_steps`), the last epoch comes again, with no batch in it
