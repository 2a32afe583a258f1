"""Batches without their background: the same numbers, the same training, fewer columns."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

from actlab import NeuralNet
from actlab.fleet.layers import Linear, PackedLinear
from actlab.fleet.loop import Data, Loop
from actlab.fleet.run import Optimizer, Run, Stopping
from actlab.fleet.sparse_batches import packed
from actlab.fleet.stacked_weights import Stack

ROWS, FEATURES, CLASSES, UNITS = 96, 64, 3, 40
BATCHES = torch.arange(ROWS).split(20)
ADAM = Optimizer("Adam", {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-4, "weight_decay": 0.0})
BACKGROUNDS = pytest.mark.parametrize("background", [0.0, -0.4242, 1.0])


def images(background, dtype=torch.float32):
    """Return rows that show something in 20 columns, a little in 15 others and nothing in the rest."""
    generator = torch.Generator().manual_seed(0)
    X = torch.full((ROWS, FEATURES), background, dtype=dtype)
    X[:, 5:25] = torch.randn(ROWS, 20, generator=generator, dtype=dtype)
    for column in range(40, 55):
        X[(7 * column) % ROWS, column] = 3.0
    return X


def whole(packing, batch, rows):
    """Return a packed batch as it was."""
    X = torch.full((rows, FEATURES), packing.background, dtype=batch.first.dtype)
    X[:, packing.order[: batch.first.shape[1]]] += batch.first
    X[:, packing.order[batch.columns]] += batch.others
    return X


@BACKGROUNDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_holds_everything_that_its_rows_hold(background, dtype):
    X = images(background, dtype)
    packing = packed(X, BATCHES)
    assert packing.background == torch.tensor(background, dtype=dtype).item()
    assert packing.order.sort().values.tolist() == list(range(FEATURES))
    for batch, rows in zip(packing.batches, BATCHES, strict=True):
        assert batch.first.shape[1] + len(batch.columns) < FEATURES // 2
        assert not set(batch.columns.tolist()) & set(range(batch.first.shape[1]))
        torch.testing.assert_close(
            whole(packing, batch, len(rows)), X[rows], rtol=0, atol=4 * torch.finfo(dtype).eps
        )


def test_a_batch_is_exact_where_the_background_is_nothing():
    X = images(0.0)
    packing = packed(X, BATCHES)
    for batch, rows in zip(packing.batches, BATCHES, strict=True):
        assert torch.equal(whole(packing, batch, len(rows)), X[rows])


def test_the_data_are_as_before():
    X = images(0.5)
    before = X.clone()
    packed(X, BATCHES)
    assert torch.equal(X, before)


def test_rows_of_nothing_but_background_are_packed_to_nothing():
    packing = packed(torch.full((10, 8), 2.5), torch.arange(10).split(5))
    assert [(b.first.numel(), b.others.numel(), len(b.columns)) for b in packing.batches] == [(0, 0, 0)] * 2
    assert packing.background == 2.5


def test_data_without_a_background_are_left_as_they_are():
    X = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(0))
    assert packed(X, BATCHES) is None
    X[:, : FEATURES // 2] = 0.0
    assert packed(X, BATCHES) is None
    X[:, FEATURES // 2] = 0.0
    assert packed(X, BATCHES) is not None


def test_data_that_are_background_here_and_there_in_every_column_are_left_as_they_are():
    X = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(0))
    X[torch.rand(X.shape, generator=torch.Generator().manual_seed(1)) < 0.7] = 0.0
    assert packed(X, BATCHES) is None
    assert packed(X, [torch.tensor([row]) for row in range(ROWS)]) is not None


def test_batches_that_take_too_much_memory_are_not_kept():
    X = images(0.0)
    many = torch.zeros((1 << 29) // (4 * FEATURES), dtype=torch.int64)
    assert packed(X, [many, many[:1]]) is None


def test_data_that_are_not_a_number_somewhere_are_packed_all_the_same():
    X = images(0.0)
    X[3, 7] = torch.nan
    packing = packed(X, BATCHES)
    again = whole(packing, packing.batches[0], 20)
    assert again.isnan().nonzero().tolist() == [[3, 7]]


# -- the layer ------------------------------------------------------------------------------------


def layers(bias, background):
    """Return a layer of float64, the same for packed batches, both stacks and the packed batches."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(FEATURES, UNITS, bias=bias)).double()
    plain, other = (Stack([net], ["0.weight"]) for _ in range(2))
    packing = packed(images(background, torch.float64), BATCHES)
    return Linear(plain, "0.", False), PackedLinear(other, "0.", False, packing), plain, other, packing


@BACKGROUNDS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_values_and_gradients_are_those_of_the_whole_product(bias, background):
    plain, other, stack, reordered, packing = layers(bias, background)
    X = images(background, torch.float64)
    generator = torch.Generator().manual_seed(3)
    for batch, rows in zip(packing.batches, BATCHES, strict=True):
        expected = plain.forward(X[rows], True)
        torch.testing.assert_close(other.forward(batch, True), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other.forward(X[rows], False), expected, rtol=1e-12, atol=1e-12)
        grad = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        plain.backward(grad.clone(), True)
        other.backward(grad.clone(), True)
        gradient = stack.grad_views["0.weight"][0][packing.order]
        torch.testing.assert_close(reordered.grad_views["0.weight"][0], gradient, rtol=1e-12, atol=1e-12)
        if bias:
            bias_gradient = stack.grad_views["0.bias"]
            torch.testing.assert_close(reordered.grad_views["0.bias"], bias_gradient, rtol=1e-12, atol=1e-12)


def test_nothing_is_left_of_the_gradient_of_the_batch_before():
    _, layer, _, stack, packing = layers(True, 0.0)
    for batch in (packing.batches[0], packing.batches[-1], packing.batches[0]):
        layer.forward(batch, True)
        layer.backward(torch.ones(len(batch.first), UNITS, dtype=torch.float64), True)
        seen = {*range(batch.first.shape[1]), *batch.columns.tolist()}
        moved = stack.grad_views["0.weight"][0].abs().sum(1).nonzero().squeeze(1).tolist()
        assert set(moved) <= seen


# -- weights in and out -----------------------------------------------------------------------------


def test_a_state_has_the_columns_in_the_order_of_the_data():
    _, _, plain, reordered, packing = layers(True, 0.0)
    assert not torch.equal(plain.views["0.weight"], reordered.views["0.weight"])
    assert torch.equal(plain.views["0.weight"][0][packing.order], reordered.views["0.weight"][0])
    for name, value in plain.state(0).items():
        assert torch.equal(reordered.state(0)[name], value)
        assert reordered.state(0)[name].is_contiguous()


def test_a_state_that_is_put_back_comes_out_again():
    _, _, plain, reordered, _ = layers(True, 0.0)
    kept, before = plain.state(0), reordered.views["0.weight"].clone()
    reordered.weights.zero_()
    assert not any(value.any() for value in reordered.state(0).values())
    reordered.put(0, kept)
    assert torch.equal(reordered.views["0.weight"], before)
    assert all(torch.equal(reordered.state(0)[name], value) for name, value in kept.items())


# -- a whole run ------------------------------------------------------------------------------------


def run(**options):
    generator = np.random.default_rng(0)
    usual = {
        "net": functools.partial(NeuralNet, UNITS, "tanh", FEATURES, CLASSES),
        "rows": generator.permutation(ROWS)[:70],
        "valid": np.arange(20),
        "test": np.arange(50, 90),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": Optimizer("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        "epochs": 4,
        "batch_size": 16,
    }
    return Run(**{**usual, **options})


def data(background):
    return Data(images(background), torch.arange(ROWS) % CLASSES)


@BACKGROUNDS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop_last": True},
        {"optimizer": ADAM},
        {"stopping": Stopping("valid_loss", patience=1, load_best=True), "epochs": 12},
    ],
    ids=["plain", "whole batches", "Adam", "the best weights"],
)
def test_a_run_without_the_background_ends_where_it_ends_with_it(background, options):
    alone = Loop([run(**options)], True, data(background))
    company = Loop([run(**options)] * 2, True, data(background))
    (result,), (expected, _) = alone.train(), company.train()
    assert alone.packed is not None
    assert company.packed is None
    assert len(result.history) == len(expected.history) > 2
    assert result.test_loss == pytest.approx(expected.test_loss, rel=1e-5)
    for row, other in zip(result.history, expected.history, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert row["valid_loss"] == pytest.approx(other["valid_loss"], rel=1e-5)
    for name, weight in expected.weights.items():
        torch.testing.assert_close(result.weights[name], weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [({"shuffle": True}, True), ({"epochs": 1}, True), ({}, False)],
    ids=["shuffled", "seen once", "by autograd"],
)
def test_nothing_is_packed_that_does_not_come_again(options, by_hand):
    loop = Loop([run(**options)], by_hand, data(0.0))
    loop.train()
    assert loop.packed is None
