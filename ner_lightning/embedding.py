"""An embedding table of which only those rows are trained whose sub-words occur in the training data.

A corpus uses a part of the vocabulary: CoNLL-2003 14,097 of BERT's 30,522 sub-words, and far fewer of XLM-R's 250,002.
The other rows have no gradient; all that AdamW does to them is to let them decay, by a factor that all of them share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ner_lightning.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNSEEN = "a batch of training holds a sub-word that the training data does not: give --model.compact_embedding=false"
_WORTHWHILE = 0.9  # of the table used: above, a second copy of the rows costs more than it saves


class CompactEmbedding(nn.Module):
    """Train some rows of an embedding with AdamW; checkpoints hold the whole table and its whole optimizer state.

    The used rows get the values that they have without it. The others are as close as rounding lets them be, since
    their decay is applied when somebody reads them: in evaluation, and when the state is saved.

    Args:
        embedding: The whole table.
        ids: The rows to train, as numbers without repetition, (used,).
    """

    def __init__(self, embedding: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx = embedding.padding_idx
        table = embedding.weight.detach()
        self.ids: Tensor
        self.places: Tensor
        self.weight: Tensor
        self.register_buffer("weight", table)  # under the name that it has in the whole model
        self.register_buffer("ids", ids.to(table.device), persistent=False)
        places = torch.full((self.num_embeddings,), -1, device=table.device)  # an id that is not trained is an error
        places[self.ids] = torch.arange(len(ids), device=table.device)
        self.register_buffer("places", places, persistent=False)
        self.rows = nn.Parameter(table[self.ids])
        trained = self.padding_idx is not None and int(places[self.padding_idx]) >= 0
        self._padding = int(places[self.padding_idx]) if trained else None  # which has no gradient
        self._decay = 1.0  # of the other rows, since the table was last brought up to date

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up, in training among the used rows alone.

        Args:
            input_ids: (windows, length).

        Returns:
            (windows, length, width).
        """
        places = self.places[input_ids]
        used = places >= 0
        if self.training:
            if input_ids.device.type == "cpu" and not used.all():  # a GPU, for which one would wait, says so itself
                raise InputError(_UNSEEN)
            return functional.embedding(places, self.rows, self._padding)
        rows = functional.embedding(places.clamp(min=0), self.rows, self._padding)
        others = functional.embedding(input_ids, self.weight) * self._decay
        return torch.where(used[..., None], rows, others)

    @torch.no_grad()
    def update(self) -> None:
        """Bring the whole table up to date."""
        self.weight.mul_(self._decay)
        self.weight[self.ids] = self.rows
        self._decay = 1.0

    def whole(self) -> nn.Embedding:
        """The whole table as an ordinary embedding."""
        self.update()
        whole = nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx, device="meta")
        whole.weight = nn.Parameter(self.weight)
        return whole

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the other rows decay with each step, and keep the state of all rows in the optimizer's `state_dict`.

        Args:
            optimizer: An AdamW that trains `rows`.
        """
        owners = [(i, p) for i, group in enumerate(optimizer.param_groups) for p in group["params"]]
        number = next(n for n, (_, parameter) in enumerate(owners) if parameter is self.rows)  # in the state

        def decay(*_: Any) -> None:
            group = optimizer.param_groups[owners[number][0]]  # which is another object after a resume
            if self.rows.grad is not None:  # else AdamW passes over it
                self._decay *= 1 - float(group["lr"]) * group["weight_decay"]

        optimizer.register_step_post_hook(decay)
        optimizer.register_state_dict_post_hook(lambda _, state: _with_moments(state, number, self._spread))
        optimizer.register_load_state_dict_pre_hook(lambda _, state: _with_moments(state, number, self._gather))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        self.update()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}rows"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if (table := state_dict.get(f"{prefix}weight")) is not None:
            state_dict[f"{prefix}rows"] = self._gather(table)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._decay = 1.0

    def _gather(self, table: Tensor) -> Tensor:
        return table[self.ids.to(table.device)]

    def _spread(self, rows: Tensor) -> Tensor:
        table = rows.new_zeros(self.num_embeddings, self.embedding_dim)
        table[self.ids.to(rows.device)] = rows  # after a fit the optimizer's state is moved, and this module is not
        return table


def compact(model: PreTrainedModel, ids: Tensor, *, within: nn.Module) -> CompactEmbedding | None:
    """Train only some rows of a model's embedding table, where this is possible and saves something.

    Args:
        model: Its embedding is replaced.
        ids: The sub-words that will occur, without repetition.
        within: All that is trained, the model among it: the table may be shared with another part.

    Returns:
        What replaces it; None where nothing was changed: the table is frozen, shared, of another kind, or nearly all of
        it is used.
    """
    embedding = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad:
        return None
    special = embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse
    uses = sum(p is embedding.weight for _, p in within.named_parameters(remove_duplicate=False))
    if special or uses > 1 or len(ids) > _WORTHWHILE * embedding.num_embeddings:
        return None
    smaller = CompactEmbedding(embedding, ids)
    model.set_input_embeddings(smaller)
    return smaller


def _with_moments(state: dict[str, Any], number: int, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The state of an optimizer with other moments of one parameter."""
    if number not in state["state"]:  # before the first step
        return state
    moments = {name: change(value) if value.ndim else value for name, value in state["state"][number].items()}
    return {**state, "state": {**state["state"], number: moments}}
