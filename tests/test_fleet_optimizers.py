"""Optimizers of stacked models, compared with torch.optim for each model."""

from __future__ import annotations

import pytest
import torch

from actlab.fleet.optimizers import OPTIMIZERS, make_torch_arguments
from actlab.fleet.run import Optimizer

STEPS, SIZE = 20, 11
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
SGD = {"lr": (0.1, 0.01, 0.5), "momentum": (0.9, 0.0, 0.5), "weight_decay": (0.0, 1e-2, 0.3)}
ADAM = {
    "lr": (1e-3, 0.1, 0.02),
    "weight_decay": (0.0, 1e-2, 0.3),
    "eps": (1e-8, 1e-3, 1e-6),
    "beta1": (0.9, 0.5, 0.0),
    "beta2": (0.999, 0.9, 0.99),
}
RMSPROP = {
    "lr": (1e-2, 1e-3, 0.1),
    "alpha": (0.99, 0.9, 0.5),
    "eps": (1e-8, 1e-3, 1e-6),
    "weight_decay": (0.0, 1e-2, 0.3),
    "momentum": (0.0, 0.9, 0.5),
}
ADAGRAD = {
    "lr": (0.1, 0.01, 0.5),
    "lr_decay": (0.0, 0.1, 1.0),
    "weight_decay": (0.0, 1e-2, 0.3),
    "initial_accumulator_value": (0.0, 0.1, 2.0),
    "eps": (1e-10, 1e-3, 1e-6),
}
NADAM = {**ADAM, "momentum_decay": (0.004, 0.5, 0.0)}
MOVING = {**SGD, "momentum": (0.9, 0.1, 0.5)}  # torch rejects Nesterov without momentum
CASES = {
    "SGD": ("SGD", SGD, ()),
    "SGD without decay": ("SGD", {**SGD, "weight_decay": (0.0, 0.0, 0.0)}, ()),
    "SGD, Nesterov": ("SGD", MOVING, ("nesterov",)),
    "Adam": ("Adam", ADAM, ()),
    "Adam, AMSGrad": ("Adam", ADAM, ("amsgrad",)),
    "AdamW": ("AdamW", ADAM, ()),
    "AdamW, AMSGrad": ("AdamW", ADAM, ("amsgrad",)),
    "RMSprop": ("RMSprop", RMSPROP, ()),
    "RMSprop, centred": ("RMSprop", RMSPROP, ("centered",)),
    "Adagrad": ("Adagrad", ADAGRAD, ()),
    "Adamax": ("Adamax", ADAM, ()),
    "NAdam": ("NAdam", NADAM, ()),
    "NAdam, decoupled decay": ("NAdam", NADAM, ("decoupled_weight_decay",)),
    "RAdam": ("RAdam", ADAM, ()),
    "RAdam, maximized": ("RAdam", ADAM, ("maximize",)),
    "Adadelta": ("Adadelta", {"lr": (1.0, 0.5, 2.0), "rho": (0.9, 0.5, 0.99)}, ()),
    "ASGD": ("ASGD", {"lr": (0.1, 0.01, 0.5), "lambd": (1e-4, 0.1, 0.0), "t0": (1e6, 3, 0)}, ()),
}


def optimizers(case):
    name, columns, flags = CASES[case]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [Optimizer(name, numbers, frozenset(flags)) for numbers in rows]


def gradients(rows, dtype, steps=STEPS):
    """Return gradients that differ by a factor of 1000, some of them zero."""
    generator = torch.Generator().manual_seed(1)
    grads = torch.randn(steps, rows, SIZE, generator=generator, dtype=torch.float64)
    grads *= torch.logspace(-2, 1, SIZE, dtype=torch.float64)
    grads[:, :, 3] = 0
    return grads.to(dtype)


class Theirs:
    """Rows of a matrix, each with its own optimizer of torch.optim."""

    def __init__(self, each, weights):
        self.rows = [row.clone().requires_grad_() for row in weights]
        kind = getattr(torch.optim, each[0].name)
        self.optimizers = [
            kind([row], **make_torch_arguments(o)) for row, o in zip(self.rows, each, strict=True)
        ]

    def step(self, grads):
        for row, optimizer, grad in zip(self.rows, self.optimizers, grads, strict=True):
            row.grad = grad.clone()
            optimizer.step()

    def set(self, name, values):
        for optimizer, value in zip(self.optimizers, values, strict=True):
            group = optimizer.param_groups[0]
            if name == "beta1":
                group["betas"] = (value, group["betas"][1])
            else:
                group[name] = value

    @property
    def weights(self):
        return torch.stack([row.detach() for row in self.rows])


class Ours:
    """The same matrix with an optimizer for stacked models."""

    def __init__(self, each, weights):
        self.weights, self.grads = weights.clone(), torch.zeros_like(weights)
        self.rule = OPTIMIZERS[each[0].name](each, self.weights, self.grads)

    def step(self, grads):
        self.grads.copy_(grads)
        self.rule.step()


def start(rows, dtype):
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def assert_same(ours, theirs):
    tolerance = TOLERANCE[theirs.dtype]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_stacked_optimizer_equals_torch_for_every_model(case, dtype):
    each, weights = optimizers(case), start(3, dtype)
    ours, theirs = Ours(each, weights), Theirs(each, weights)
    for grads in gradients(3, dtype):
        ours.step(grads)
        theirs.step(grads)
        assert_same(ours.weights, theirs.weights)


@pytest.mark.parametrize("case", CASES)
def test_stacked_optimizer_continues_with_a_smaller_stack(case):
    each, weights, remaining = optimizers(case), start(3, torch.float64), torch.tensor([2, 0])
    theirs, before = Theirs(each, weights), Ours(each, weights)
    for grads in gradients(3, torch.float64)[:7]:
        before.step(grads)
        theirs.step(grads)
    after = Ours([each[row] for row in remaining], before.weights[remaining])
    after.rule.copy_networks(before.rule, remaining)
    for grads in gradients(3, torch.float64)[7:]:
        after.step(grads[remaining])
        theirs.step(grads)
    assert_same(after.weights, theirs.weights[remaining])


@pytest.mark.parametrize("case", CASES)
def test_stacked_optimizer_set_applies_from_the_next_step(case):
    each, weights, remaining = optimizers(case), start(3, torch.float64), torch.tensor([1])
    theirs, before = Theirs(each, weights), Ours(each, weights)
    names = ("beta1", "momentum", "lr_decay", "rho", "lambd")
    cycled = next(name for name in names if name in each[0].numbers)
    for number, grads in enumerate(gradients(3, torch.float64)[:9], 1):
        # No momentum is exactly 0, because torch would then skip its buffer.
        for name, values in {"lr": (0.1 / number, 0.2, 0.03), cycled: (0.9, 0.5 / number, 0.8)}.items():
            before.rule.set_number(name, values)
            theirs.set(name, values)
        before.step(grads)
        theirs.step(grads)
    assert_same(before.weights, theirs.weights)
    after = Ours([each[1]], before.weights[remaining])
    after.rule.copy_networks(before.rule, remaining)
    for grads in gradients(3, torch.float64)[9:]:
        after.step(grads[remaining])
        theirs.step(grads)
    assert_same(after.weights, theirs.weights[remaining])


@pytest.mark.parametrize("case", CASES)
def test_stacked_optimizer_is_independent_for_each_model(case):
    each, weights = optimizers(case), start(3, torch.float32)
    together = Ours(each, weights)
    single = [Ours([o], weights[[row]]) for row, o in enumerate(each)]
    for grads in gradients(3, torch.float32):
        together.step(grads)
        for row, one in enumerate(single):
            one.step(grads[[row]])
    assert_same(together.weights, torch.cat([one.weights for one in single]))
