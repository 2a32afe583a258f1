"""Scores of every epoch, as skorch's EpochScoring computes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from actlab.fleet.run import EpochScore


class EpochScorer:
    """Computes one score of one run from the outputs of its network.

    Args:
        rule: The score.
        loss: The criterion, which decides how outputs become predictions.
        y: Targets (n, ...) of the samples that the run trains and validates on.
    """

    def __init__(self, rule: EpochScore, loss: nn.Module, y: Tensor) -> None:
        # Most fleets have no such score, and their processes start faster without skorch.
        import skorch
        from sklearn.metrics import get_scorer

        options = {} if rule.classes is None else {"classes": rule.classes}
        # The model needs a module, which is never called.
        model = rule.model(nn.PReLU(), criterion=loss, callbacks="disable", **options)
        self.model, self.score = model.initialize(), get_scorer(rule.scoring)
        self.model.check_data(None, y.cpu().numpy())  # a classifier infers its classes
        self.is_flat = isinstance(self.model, skorch.NeuralNetBinaryClassifier)

    def __call__(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the score of the outputs (n, ...) for the targets (n, ...)."""
        if self.is_flat:
            outputs = outputs.reshape(-1)  # as in its infer
        self.model.forward_iter = lambda *args, **kwargs: iter([outputs])
        return float(self.score(self.model, None, targets.numpy()))


class EpochOutputs:
    """The outputs of the networks in one epoch, for its scores.

    Args:
        rules: The scores of every run of the fleet.
    """

    def __init__(self, rules: Sequence[EpochScore]) -> None:
        self.batches: dict[bool, list[tuple[Tensor, Tensor]]] = {rule.on_train: [] for rule in rules}

    def add(self, outputs: Tensor, targets: Tensor, *, on_train: bool) -> None:
        """Add the outputs and targets (R, n, ...) of a batch if a score needs them."""
        if on_train in self.batches:
            self.batches[on_train].append((outputs.cpu(), targets.cpu()))

    def join(self) -> dict[bool, tuple[Tensor, Tensor]]:
        """Return outputs and targets (R, n, ...) of the training samples (True) and the others (False)."""
        joined = {kind: list(zip(*batches, strict=True)) for kind, batches in self.batches.items() if batches}
        return {kind: (torch.cat(parts[0], 1), torch.cat(parts[1], 1)) for kind, parts in joined.items()}
