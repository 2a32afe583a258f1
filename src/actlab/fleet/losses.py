"""Losses over a stack of networks: one mean per network, and its gradient with respect to the outputs."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

_IGNORED = nn.CrossEntropyLoss().ignore_index
_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
_BINARY = (nn.BCEWithLogitsLoss, nn.BCELoss)
_NUMBERS = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss)
_KINDS = (*_CLASSES, *_BINARY, *_NUMBERS)


def find_loss_problem(loss: nn.Module) -> str:
    """Return why a fleet cannot use a criterion; an empty string if it can."""
    if type(loss) not in _KINDS:
        return f"criterion is {type(loss).__name__}; a fleet supports {', '.join(k.__name__ for k in _KINDS)}"
    if loss.reduction != "mean":
        return f"criterion__reduction is {loss.reduction!r}; a fleet needs 'mean'"
    return ""


class WeightedLoss(nn.Module):
    """A loss that is the weighted mean over samples. The last column of the targets has the weights.

    Args:
        loss: The criterion, whose plain mean is replaced.
        y: Targets (n, ...) without weights, for their shape and dtype.
    """

    def __init__(self, loss: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.loss, self.shape, self.dtype = copy.deepcopy(loss), y.shape[1:], y.dtype
        self.loss.reduction = "none"  # type: ignore[assignment]

    def split(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the targets (..., *shape) and the weights (...) of targets (..., k + 1)."""
        y = targets[..., :-1].reshape(*targets.shape[:-1], *self.shape).to(self.dtype)
        return y, targets[..., -1]

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of one network's outputs (n, ...)."""
        y, weights = self.split(targets)
        losses = compute_loss(self.loss, outputs, y).reshape(len(weights), -1).mean(1)
        return (losses * weights).sum() / weights.sum()


def append_weights(y: Tensor, weights: Tensor) -> Tensor:
    """Return targets (n, k + 1), float64, for a :class:`WeightedLoss`."""
    return torch.cat([y.reshape(len(y), -1).double(), weights.unsqueeze(1)], 1)


def compute_loss(loss: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of one network's outputs (n, ...) as skorch computes it."""
    if isinstance(loss, nn.NLLLoss):  # skorch's convention: the network returns probabilities
        outputs = torch.log(outputs + torch.finfo(outputs.dtype).eps)
    if isinstance(loss, _BINARY):
        outputs = _without_column(outputs, targets)
    if isinstance(loss, _NUMBERS):
        _check_shapes(outputs, targets)
    result: Tensor = loss(outputs, targets)
    return result


def is_for_classes(loss: nn.Module) -> bool:
    """Return whether the targets of a loss are class indices."""
    return isinstance(loss, _CLASSES)


def has_class_weights(loss: nn.Module) -> bool:
    """Return whether a loss weights its classes, or ignores one."""
    return is_for_classes(loss) and (loss.weight is not None or loss.ignore_index != _IGNORED)


def find_scoring(loss: nn.Module) -> str:
    """Return how to compute the accuracy of a classifier, as in :attr:`Run.scoring`."""
    if isinstance(loss, _CLASSES):
        return "classes"
    return {nn.BCEWithLogitsLoss: "binary", nn.BCELoss: "binary probabilities"}.get(type(loss), "")


def has_explicit_gradient(loss: nn.Module) -> bool:
    """Return whether the gradient is computed explicitly: for three losses, if they have no weights."""
    if isinstance(loss, nn.CrossEntropyLoss):
        # Samples may have another ignored label.
        return loss.weight is None and loss.ignore_index == _IGNORED and not loss.label_smoothing
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return loss.weight is None and loss.pos_weight is None
    return isinstance(loss, nn.MSELoss)


def compute_loss_and_gradients(
    loss: nn.Module, outputs: Tensor, targets: Tensor, *, stacked: bool
) -> tuple[Tensor, Tensor]:
    """Return the mean loss of every network and its gradient.

    Args:
        loss: A criterion for which :func:`has_explicit_gradient` is true.
        outputs: Outputs (n, ...) of one network, or (R, n, ...) of a stack.
        targets: Class indices (n,) or (R, n) for cross-entropy, otherwise numbers (like ``outputs``).
        stacked: Whether outputs and targets are those of a stack.

    Returns:
        Losses () or (R,), and gradients with respect to the outputs.

    Raises:
        ValueError: Outputs and targets differ in shape.
    """
    size = targets[0].numel() if stacked else targets.numel()
    if isinstance(loss, nn.CrossEntropyLoss):
        samples, classes = int(stacked), int(stacked) + 1  # dimensions
        # torch needs a quarter of the time if the classes come before the samples.
        logs = torch.log_softmax(outputs.transpose(classes, samples).contiguous(), samples)
        labels = targets.unsqueeze(samples)
        losses = _sum(logs.gather(samples, labels), stacked).mul_(-1 / size)
        grads = logs.exp_().scatter_add_(samples, labels, _minus_one(labels.shape, logs.dtype, logs.device))
        return losses, grads.mul_(1 / size).transpose(samples, classes)
    flat = _without_column(outputs, targets) if isinstance(loss, nn.BCEWithLogitsLoss) else outputs
    _check_shapes(flat, targets)
    if isinstance(loss, nn.MSELoss):
        difference = outputs - targets
        return _sum(difference * difference, stacked).div_(size), difference.mul_(2 / size)
    values = nn.functional.binary_cross_entropy_with_logits(flat, targets, reduction="none")
    grads = (torch.sigmoid(flat) - targets).mul_(1 / size)
    return _sum(values, stacked).div_(size), grads.reshape(outputs.shape)


def _check_shapes(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:  # torch would broadcast them
        raise ValueError(f"outputs are {tuple(outputs.shape)}, but targets {tuple(targets.shape)}")


def _without_column(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs (n, 1) as (n,) if the targets are (n,), like skorch's binary classifier."""
    return outputs.squeeze(-1) if outputs.shape == (*targets.shape, 1) else outputs


def _sum(values: Tensor, stacked: bool) -> Tensor:
    return values.flatten(1).sum(1) if stacked else values.sum()


@functools.lru_cache(maxsize=64)
def _minus_one(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), -1.0, dtype=dtype, device=device).expand(shape)
