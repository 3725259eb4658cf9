"""Heads that name a scene's facts during training, and are thrown away afterwards.

Drawn scenes come with exact labels, so naming them from every patch and from the embeddings
teaches the towers many times faster than matching images to captions alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lensmesh_shapes.data import FACT_CLASSES, UNSAID, Batch


def _facts_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy over a group's facts: logits [N, sum of classes], labels [N, 4]."""
    parts = torch.split(logits, list(FACT_CLASSES), dim=1)
    losses = [cross_entropy(part, labels[:, fact]) for fact, part in enumerate(parts)]
    return torch.stack(losses).mean()


class PatchHeads(nn.Module):
    """Heads on each patch's token: which group lies there, and all that group's facts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.where = nn.Linear(width, 3)
        self.facts = nn.Linear(width, sum(FACT_CLASSES))

    def loss(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Return the loss of tokens [B, patches, width]."""
        where = cross_entropy(self.where(tokens).flatten(0, 1), batch.patches.flatten())
        covered = batch.patches > 0
        rows = covered.nonzero()[:, 0]
        labels = batch.groups[rows, batch.patches[covered] - 1]
        return where + _facts_loss(self.facts(tokens[covered]), labels)


class SceneHeads(nn.Module):
    """Heads on a whole embedding: both groups' facts and the relation, in canonical order.

    Image and text embeddings share these heads, which draws the two towers together.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, sum(FACT_CLASSES))
        self.second = nn.Linear(width, sum(FACT_CLASSES))
        self.relation = nn.Linear(width, 3)

    def loss(self, embedding: Tensor, batch: Batch, sizes_known: Tensor) -> Tensor:
        """Return the loss of embeddings [B, width]; where sizes_known [B] is false, sizes are not asked."""
        groups = batch.groups.clone()
        groups[:, :, 1].masked_fill_(~sizes_known[:, None], UNSAID)
        relation = cross_entropy(self.relation(embedding), batch.relations)
        first = _facts_loss(self.first(embedding), groups[:, 0])
        return relation + first + _facts_loss(self.second(embedding), groups[:, 1])
