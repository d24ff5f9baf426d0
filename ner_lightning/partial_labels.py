"""Training files that annotate some types only: an `O` there means none of these types, and may be any other.

The loss of such an `O` is minus the logarithm of the summed probability of all labels that it may stand for: the
marginal likelihood of what the annotation leaves open (Tsuboi et al. 2008; for corpora with disjoint types Greenberg et
al. 2018, "Marginal Likelihood Training of BiLSTM-CRF for Biomedical NER from Disjoint Label Sets").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ner_lightning.errors import InputError, suggestion
from ner_lightning.tags import is_entity_scheme

if TYPE_CHECKING:
    from torch import Tensor


def annotated_labels(
    types: Mapping[Path | None, Sequence[str]], *, files: Sequence[Path | None], labels: Sequence[str]
) -> list[list[str]]:
    """Tell the labels that may stand in each training file: in one of which nothing is said, all.

    Args:
        types: The types that a file annotates.
        files: The training files; None for rows of another kind.
        labels: Those of the corpus.

    Raises:
        InputError: What is said of the files cannot be.
    """
    if "O" not in labels or not is_entity_scheme(labels):
        raise InputError(
            f"--data.annotated_types is for entities, whose labels have O, found {', '.join(labels)}; leave it out"
        )
    known = {label[2:]: None for label in labels if label != "O"}
    for file, named in types.items():
        if file not in files:
            given = ", ".join(str(path) for path in files if path) or "there are none"
            raise InputError(
                f"--data.annotated_types: {file} is none of the training files ({given}); name one of them, or take "
                "back what a config file or a checkpoint says by --data.annotated_types=null"
            )
        for type_ in named:
            if type_ not in known:
                raise InputError(
                    f"--data.annotated_types: {file} is said to annotate {type_}, which is none of the types "
                    f"{', '.join(known)} of the labels{suggestion(type_, known)}"
                )
    annotated = [types.get(file, known) for file in files]
    for type_ in known:
        if not any(type_ in named for named in annotated):
            raise InputError(
                f"--data.annotated_types: no training file is said to annotate {type_}, which is in the label list; "
                "add it to the types of a file, or take it out of --data.labels"
            )
    return [[label for label in labels if label == "O" or label[2:] in named] for named in annotated]


def meant_by_o(labels: Sequence[str], annotated: Sequence[Sequence[str]]) -> list[list[bool]]:
    """Tell of each label (columns) whether an `O` may stand for it, by file (rows).

    Args:
        labels: Those of the corpus.
        annotated: Those that may stand in each file, see `annotated_labels`.
    """
    return [[label == "O" or label not in own for label in labels] for own in annotated]


def marginal_losses(losses: Tensor, *, logits: Tensor, labels: Tensor, meant_by_o: Tensor) -> Tensor:
    """Put the loss of each `O` that may stand for other labels, too, in place of its cross entropy.

    Args:
        losses: Cross entropy, (windows * length,).
        logits: (windows, length, labels).
        labels: (windows, length), negative where there is none.
        meant_by_o: The labels that an `O` may stand for, (windows, labels).
    """
    several = meant_by_o.sum(dim=1, keepdim=True) > 1  # (windows, 1): what is annotated in full keeps its cross entropy
    # of the labels that may stand in a file, O alone is one of those that O may stand for
    is_open = meant_by_o.gather(1, labels.clamp(min=0)) & several  # (windows, length)
    possible = logits.log_softmax(dim=-1).masked_fill(~meant_by_o[:, None], -math.inf)
    return possible.logsumexp(dim=-1).neg().flatten().where(is_open.flatten(), losses)


def in_words(types: Mapping[str, Sequence[str]]) -> str:
    """Say what each file annotates."""
    return "; ".join(f"{file}: {', '.join(named)}" for file, named in types.items())
