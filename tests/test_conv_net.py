import numpy as np
import pytest
import skorch
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from actlab import UsageError, load_data
from actlab.fleet.trace import trace_layers
from actlab.models.networks import ConvNet
from tests.searches import one_thread

__all__ = ["one_thread"]


@pytest.mark.parametrize(
    ("arguments", "image"),
    [
        ({"num_features": 64}, (1, 8, 8)),
        ({}, (1, 28, 28)),
        ({"num_features": 1}, (1, 1, 1)),
        ({"num_features": 25, "num_units": 4, "num_classes": 2}, (1, 5, 5)),
        ({"num_features": 3 * 6 * 10, "image_shape": (3, 6, 10)}, (3, 6, 10)),
    ],
)
def test_conv_net_gives_the_same_logits_for_flat_samples_and_images(arguments, image):
    model = ConvNet(**arguments)
    images = torch.randn(3, *image)
    logits = model(images)
    assert logits.shape == (3, arguments.get("num_classes", 10))
    assert torch.equal(model(images.flatten(1)), logits)


def test_conv_net_accepts_an_empty_batch():
    assert ConvNet(num_features=64)(torch.empty(0, 64)).shape == (0, 10)


def test_conv_net_has_four_layers_and_three_activations():
    model = ConvNet(num_units=8, activation="tanh", num_features=36, num_classes=3)
    x = torch.randn(4, 36)
    hidden = torch.tanh(model.conv2(torch.tanh(model.conv1(x.view(4, 1, 6, 6)))))
    expected = model.fc2(torch.tanh(model.fc1(hidden.flatten(1))))
    assert torch.equal(model(x), expected)


def test_conv_net_sizes_follow_num_units():
    model = ConvNet(num_units=32, num_features=64)
    sizes = [tuple(layer.weight.shape) for layer in (model.conv1, model.conv2, model.fc1, model.fc2)]
    assert sizes == [(8, 1, 3, 3), (16, 8, 3, 3), (32, 64), (10, 32)]


def test_conv_net_layers_have_separate_activations():
    model = ConvNet(activation=nn.PReLU(), num_features=64)
    assert len({id(p) for p in model.parameters() if p.numel() == 1}) == 3


@pytest.mark.parametrize("activation", ["tanh", nn.PReLU, torch.relu, "xielu"])
def test_conv_net_weights_do_not_depend_on_the_activation(activation):
    torch.manual_seed(3)
    model = dict(ConvNet(activation=activation, num_features=64).named_parameters())
    torch.manual_seed(3)
    for name, value in ConvNet(num_features=64).named_parameters():
        assert torch.equal(model[name], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_units": 3}, "num_units must be at least 4, got 3"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"num_features": 0}, "num_features must be at least 1, got 0"),
        (
            {"num_features": 65},
            "num_features must be a square number, got 65; for other images, pass image_shape=(",
        ),
        ({"num_features": 64, "image_shape": (1, 8, 9)}, "the product 64, got (1, 8, 9)"),
        ({"num_features": 64, "image_shape": (8, 8)}, "height, width) with the product 64"),
        ({"num_features": 64, "image_shape": (1, -8, -8)}, "the product 64, got (1, -8, -8)"),
    ],
)
def test_conv_net_rejects_invalid_sizes(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ConvNet(**arguments)
    assert message in str(error.value)


def test_conv_net_rejects_samples_of_another_width():
    with pytest.raises(RuntimeError, match="65"):
        ConvNet(num_features=64)(torch.zeros(2, 65))


def test_conv_net_suggests_the_nearest_activation_name():
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        ConvNet(activation="reluu")


@pytest.mark.parametrize("activation", ["relu", "mish", nn.PReLU])
def test_conv_net_gradients_under_vmap_equal_single_gradients(activation):
    models = [ConvNet(num_units=8, activation=activation, num_features=64) for _ in range(3)]
    x = torch.randn(5, 64)
    weights, _ = stack_module_state(models)
    stacked = torch.vmap(lambda w: functional_call(models[0], w, (x,)))(weights)
    grads = torch.autograd.grad(stacked.square().sum(), list(weights.values()))
    for index, model in enumerate(models):
        single = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        for ours, theirs in zip(grads, single, strict=True):
            torch.testing.assert_close(ours[index], theirs)


def test_fleet_traces_conv_net_as_layers():
    layers = trace_layers(ConvNet(num_features=64))
    assert layers is not None
    assert [layer.name for layer in layers if layer.kind == "formula"] == [
        "activation1.",
        "activation2.",
        "activation3.",
    ]


def test_conv_net_learns_the_digits():
    torch.manual_seed(0)
    data = load_data("digits")
    model = skorch.NeuralNetClassifier(
        ConvNet,
        module__num_features=64,
        criterion=nn.CrossEntropyLoss,
        optimizer__momentum=0.9,
        lr=0.1,
        batch_size=64,
        max_epochs=10,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    learnt = np.arange(len(data.X)) % 5 != 0
    model.fit(data.X[learnt], data.y[learnt])
    assert np.mean(model.predict(data.X[~learnt]) == data.y[~learnt]) > 0.9
