import copy

import pytest
import torch
from torch import nn

from actlab import UsageError
from actlab.models.networks import NeuralNet


def test_neural_net_has_the_layers_of_the_notebook():
    model = NeuralNet()
    sizes = [tuple(layer.weight.shape) for layer in (model.fc1, model.fc2, model.fc3)]
    assert sizes == [(128, 784), (64, 128), (10, 64)]


def test_neural_net_has_three_layers_and_two_activations():
    model = NeuralNet(num_units=6, activation="tanh", num_features=5, num_classes=3)
    x = torch.randn(4, 5)
    expected = model.fc3(torch.tanh(model.fc2(torch.tanh(model.fc1(x)))))
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    "activation", ["relu", "leaky_relu(negative_slope=0.0)", nn.ReLU(), nn.ReLU, torch.relu]
)
def test_neural_net_accepts_name_spec_module_class_and_function(activation):
    torch.manual_seed(0)
    model = NeuralNet(num_units=6, activation=activation, num_features=5, num_classes=3)
    torch.manual_seed(0)
    twin = NeuralNet(num_units=6, activation="relu", num_features=5, num_classes=3)
    x = torch.randn(4, 5)
    assert torch.equal(model(x), twin(x))


def test_neural_net_layers_have_separate_activations():
    model = NeuralNet(num_units=6, activation=nn.PReLU(), num_features=5, num_classes=3)
    assert model.activation1 is not model.activation2
    assert model.activation1.weight is not model.activation2.weight


def test_neural_net_copies_a_trained_instance_and_does_not_change_it():
    trained = nn.PReLU(init=0.1)
    with torch.no_grad():
        trained.weight.fill_(0.9)
    before = copy.deepcopy(trained.state_dict())
    model = NeuralNet(num_units=6, activation=nn.Sequential(trained), num_features=5, num_classes=3)
    assert model.activation1[0].weight.item() == model.activation2[0].weight.item() == pytest.approx(0.9)
    model(torch.randn(4, 5)).sum().backward()
    assert trained.weight.grad is None
    assert torch.equal(trained.weight, before["weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_units": 1}, "num_units must be at least 2, got 1"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"num_features": 0}, "num_features must be at least 1, got 0"),
    ],
)
def test_neural_net_rejects_invalid_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeuralNet(**arguments)


def test_neural_net_suggests_the_nearest_activation_name():
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        NeuralNet(activation="reluu")
