"""Losses of stacked models and their gradients, compared with torch."""

from __future__ import annotations

import pytest
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from actlab.fleet.losses import (
    compute_loss,
    compute_loss_and_gradients,
    find_loss_problem,
    has_explicit_gradient,
)

NETS, ROWS = 3, 7
CASES = {
    "classes": (nn.CrossEntropyLoss(), (4,), ()),
    "classes of many places": (nn.CrossEntropyLoss(), (4, 2), (2,)),
    "classes of an image": (nn.CrossEntropyLoss(), (4, 2, 3), (2, 3)),
    "binary": (nn.BCEWithLogitsLoss(), (), ()),
    "binary in a column": (nn.BCEWithLogitsLoss(), (1,), ()),
    "binary, column against column": (nn.BCEWithLogitsLoss(), (1,), (1,)),
    "many labels": (nn.BCEWithLogitsLoss(), (5,), (5,)),
    "one number": (nn.MSELoss(), (), ()),
    "a column of numbers": (nn.MSELoss(), (1,), (1,)),
    "some numbers": (nn.MSELoss(), (3,), (3,)),
    "a table of numbers": (nn.MSELoss(), (3, 2), (3, 2)),
}


def draw_inputs(loss, outputs, targets, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    y = scale * torch.randn(NETS, ROWS, *outputs, generator=generator, dtype=torch.float64)
    if isinstance(loss, nn.CrossEntropyLoss):
        return y, torch.randint(outputs[0], (NETS, ROWS, *targets), generator=generator)
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return y, torch.randint(2, (NETS, ROWS, *targets), generator=generator).double()
    return y, torch.randn(NETS, ROWS, *targets, generator=generator, dtype=torch.float64)


def by_autograd(loss, outputs, targets):
    leaf = outputs.clone().requires_grad_()
    value = compute_loss(loss, leaf, targets)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_of_a_stack_equal_those_of_each_model(case):
    loss, *shapes = CASES[case]
    outputs, targets = draw_inputs(loss, *shapes)
    expected = [by_autograd(loss, *model) for model in zip(outputs, targets, strict=True)]
    values, grads = compute_loss_and_gradients(loss, outputs, targets, stacked=True)
    torch.testing.assert_close(values, torch.stack([v for v, _ in expected]), rtol=1e-13, atol=0)
    torch.testing.assert_close(grads, torch.stack([g for _, g in expected]), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_of_one_model(case):
    loss, *shapes = CASES[case]
    outputs, targets = (part[0] for part in draw_inputs(loss, *shapes))
    expected, slope = by_autograd(loss, outputs, targets)
    value, grad = compute_loss_and_gradients(loss, outputs, targets, stacked=False)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(grad, slope, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_do_not_overflow_for_large_outputs(case):
    loss, *shapes = CASES[case]
    outputs, targets = draw_inputs(loss, *shapes, scale=1000.0)
    targets_32 = targets.float() if targets.is_floating_point() else targets
    values, grads = compute_loss_and_gradients(loss, outputs.float(), targets_32, stacked=True)
    expected = [by_autograd(loss, *model) for model in zip(outputs, targets, strict=True)]
    torch.testing.assert_close(values.double(), torch.stack([v for v, _ in expected]), rtol=1e-6, atol=0)
    torch.testing.assert_close(grads.double(), torch.stack([g for _, g in expected]), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()], ids=["mse", "bce"])
@pytest.mark.parametrize("stacked", [False, True])
def test_loss_and_gradients_reject_broadcast_shapes(loss, stacked):
    outputs, targets = torch.zeros(4, 4, 2), torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"outputs are \(4, .*2\), but targets \(4,.*\)"):
        compute_loss_and_gradients(
            loss, *(part if stacked else part[0] for part in (outputs, targets)), stacked=stacked
        )


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.SmoothL1Loss(), nn.HuberLoss(), nn.PoissonNLLLoss()])
def test_single_loss_of_numbers_rejects_broadcast_shapes(loss):
    with pytest.raises(ValueError, match=r"outputs are \(4, 1\), but targets \(4,\)"):
        compute_loss(loss, torch.zeros(4, 1), torch.zeros(4))


@pytest.mark.parametrize(
    ("loss", "written_down"),
    [
        (nn.CrossEntropyLoss(), True),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), False),
        (nn.CrossEntropyLoss(label_smoothing=0.1), False),
        (nn.CrossEntropyLoss(ignore_index=2), False),
        (nn.CrossEntropyLoss(ignore_index=-1), False),
        (nn.NLLLoss(), False),
        (nn.BCEWithLogitsLoss(), True),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), False),
        (nn.BCEWithLogitsLoss(weight=torch.ones(3)), False),
        (nn.MSELoss(), True),
    ],
    ids=repr,
)
def test_has_explicit_gradient_is_false_for_weighted_losses(loss, written_down):
    assert has_explicit_gradient(loss) is written_down


def test_single_loss_of_probabilities_equals_skorch():
    probabilities = torch.softmax(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), 1)
    probabilities[0] = torch.tensor([0.0, 0.0, 1.0])
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    model = NeuralNetClassifier(nn.Linear(1, 1), criterion=nn.NLLLoss).initialize()
    assert torch.equal(
        compute_loss(nn.NLLLoss(), probabilities, targets), model.get_loss(probabilities, targets)
    )


def test_single_loss_of_a_column_of_logits_equals_skorch():
    x, targets = torch.linspace(-3, 3, 6).unsqueeze(1), torch.tensor([0.0, 1, 0, 1, 0, 1])
    model = NeuralNetBinaryClassifier(nn.Linear(1, 1)).initialize()
    column = model.module_(x)
    assert column.shape == (6, 1)
    assert torch.equal(
        compute_loss(model.criterion_, column, targets), model.get_loss(model.infer(x), targets)
    )


def test_loss_problem_names_unsupported_losses():
    assert find_loss_problem(nn.CrossEntropyLoss()) == ""
    assert find_loss_problem(nn.KLDivLoss(reduction="mean")) == (
        "criterion is KLDivLoss; a fleet supports CrossEntropyLoss, NLLLoss, BCEWithLogitsLoss, BCELoss, "
        "MSELoss, L1Loss, SmoothL1Loss, HuberLoss, PoissonNLLLoss"
    )
    assert (
        find_loss_problem(nn.MSELoss(reduction="sum"))
        == "criterion__reduction is 'sum'; a fleet needs 'mean'"
    )
