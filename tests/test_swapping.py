import copy
import functools
import warnings

import numpy as np
import pytest
import skorch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import actlab
from actlab import UsageError, load_data, swap
from actlab.ledger.run_key import describe, hash_description
from actlab.models.networks import ConvNet, NeuralNet
from tests.swaps import (
    Functional,
    Helped,
    Holding,
    Tanhs,
    apply_tanhs,
    list_paths,
    one_thread,
    pickle_and_load,
)

__all__ = ["one_thread"]


@pytest.mark.parametrize("key", [nn.ReLU, "relu", "1"])
def test_swap_selects_modules_by_class_name_and_path(key):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    swapped = swap(model, {key: nn.Tanh})
    x = torch.randn(5, 4)
    assert torch.equal(swapped(x), model[2](torch.tanh(model[0](x))))


def test_swap_finds_modules_at_any_depth():
    model = nn.ModuleDict(
        {"list": nn.ModuleList([nn.Sequential(nn.ReLU()), nn.ReLU()]), "model": NeuralNet()}
    )
    swapped = swap(model, {"relu": "mish"})
    assert list_paths(swapped) == {"mish": ["list.0.0", "list.1", "model.activation1", "model.activation2"]}


def test_swap_name_matches_modules_of_torch_and_actlab():
    swapped = swap(nn.Sequential(nn.ReLU(), actlab.nn.ReLU(), nn.ReLU6()), {"relu": "tanh"})
    assert [type(part) for part in swapped] == [actlab.nn.Tanh, actlab.nn.Tanh, nn.ReLU6]


def test_swap_class_does_not_match_subclasses():
    assert issubclass(nn.ReLU6, nn.Hardtanh)
    swapped = swap(nn.Sequential(nn.ReLU6(), nn.Hardtanh()), {nn.Hardtanh: nn.Tanh})
    assert [type(part) for part in swapped] == [nn.ReLU6, nn.Tanh]


def test_swap_applies_all_replacements_at_once():
    swapped = swap(nn.Sequential(nn.ReLU(), nn.Tanh()), {nn.ReLU: nn.Tanh, nn.Tanh: nn.ReLU})
    assert [type(part) for part in swapped] == [nn.Tanh, nn.ReLU]


def test_swap_prefers_paths_and_earlier_keys():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    swapped = swap(model, {"relu": nn.Tanh, nn.ReLU: nn.SiLU, "1": nn.ELU})
    assert [type(part) for part in swapped] == [nn.Tanh, nn.ELU]


def test_swap_replaces_containers_with_their_contents():
    model = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Tanh())
    swapped = swap(model, {"0": nn.Identity, nn.Tanh: nn.ELU})
    assert [type(part) for part in swapped] == [nn.Identity, nn.ELU]


def test_swap_gives_every_replacement_its_own_parameters():
    trained = nn.PReLU()
    with torch.no_grad():
        trained.weight.fill_(0.9)
    swapped = swap(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()), Functional()), {nn.ReLU: trained})
    weights = [p for p in swapped.parameters() if p.numel() == 1]
    assert len({p.data_ptr() for p in weights}) == 5
    assert all(p.item() == pytest.approx(0.9) for p in weights)
    assert trained.weight.item() == pytest.approx(0.9)


def test_swap_keeps_sharing_of_modules():
    act = nn.ReLU()
    swapped = swap(nn.Sequential(act, nn.Linear(2, 2), act, nn.ReLU()), {nn.ReLU: nn.PReLU})
    assert swapped[0] is swapped[2]
    assert swapped[3] is not swapped[0]
    assert len(list(swapped.parameters())) == 4


def test_swap_path_selects_one_use_of_a_shared_module():
    act = nn.ReLU()
    swapped = swap(nn.Sequential(act, act), {"1": nn.Tanh})
    assert [type(part) for part in swapped] == [nn.ReLU, nn.Tanh]


def test_swap_path_applies_to_a_shared_block():
    block = nn.Sequential(nn.ReLU())
    swapped = swap(nn.Sequential(block, block), {"1.0": nn.Tanh, "relu": nn.ELU})
    assert type(swapped[0][0]) is type(swapped[1][0]) is nn.Tanh


def test_swap_keeps_mode_dtype_and_device():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ReLU()).double()
    model[1].eval()
    swapped = swap(model, {nn.ReLU: nn.PReLU})
    assert [part.training for part in swapped] == [True, False, True]
    assert swapped[1].weight.dtype == torch.float64
    assert swap(model.to("meta"), {nn.ReLU: nn.PReLU})[1].weight.is_meta


def test_swap_replaces_a_model_that_is_an_activation():
    assert isinstance(swap(nn.ReLU().eval(), {"relu": nn.Tanh}), nn.Tanh)
    assert not swap(nn.ReLU().eval(), {"relu": nn.Tanh}).training
    with pytest.raises(UsageError, match="the model itself is the ReLU"):
        swap(nn.ReLU(), {nn.ReLU: nn.Tanh}, inplace=True)


def test_swap_rejects_replacements_that_are_neither_activation_nor_dictionary():
    message = r"swap: the replacement for all activations: \[.*\] is not an activation; pass a name"
    with pytest.raises(UsageError, match=message):
        swap(nn.Sequential(nn.ReLU()), [(nn.ReLU, "mish")])


@pytest.mark.parametrize("activation", [torch.sin, actlab.functional.mish, nn.SiLU(), "elu(alpha=0.5)"])
def test_swap_accepts_functions_modules_and_specs(activation):
    swapped = swap(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), {nn.ReLU: activation})
    x = torch.randn(2, 3)
    function = actlab.get(activation) if isinstance(activation, str) else activation
    assert torch.equal(swapped(x), function(swapped[0](x)))


def test_swap_returns_an_independent_copy():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Functional())
    x, before = torch.randn(3, 4), copy.deepcopy(model.state_dict())
    expected = model(x)
    swapped = swap(model, {"relu": "tanh"})
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in swapped.parameters()}
    with torch.no_grad():
        for p in swapped.parameters():
            p.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x), expected)
    assert list_paths(model).keys() == {"relu"}


def test_swap_inplace_changes_the_model():
    model = Functional()
    weight, x = model.first.weight, torch.randn(3, 4)
    assert swap(model, {"relu": "tanh"}, inplace=True) is model
    assert model.first.weight is weight
    assert torch.equal(model(x), apply_tanhs(model, x))


# -- find_activations --------------------------------------------------------------------------------------


def test_find_activations_lists_only_elementwise_modules():
    model = nn.Sequential(
        nn.Softmax(-1), nn.LogSoftmax(-1), nn.GLU(), nn.MultiheadAttention(4, 2), nn.LSTM(4, 4), nn.PReLU()
    )
    assert list_paths(model) == {"prelu": ["5"]}
    assert list_paths(nn.Tanh()) == {"tanh": [""]}
    assert list_paths(nn.Linear(2, 2)) == {}


def test_find_activations_lists_all_paths_of_a_shared_module():
    act = nn.ReLU()
    assert list_paths(nn.Sequential(act, nn.Tanh(), act)) == {"relu": ["0", "2"], "tanh": ["1"]}


def test_find_activations_ignores_functions_that_are_not_called():
    class Network(nn.Module):
        relu, act_layer = "relu", nn.ReLU

        def forward(self, x):
            return self.relu and x

    assert list_paths(Network()) == {}


# -- use of the result ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(4, 4), nn.ReLU()), Functional(), Holding()])
@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, pickle_and_load])
def test_swap_result_can_be_copied_and_pickled(model, again):
    swapped, x = swap(model, {"relu": nn.PReLU}), torch.randn(3, 4)
    copied = again(again(swapped))
    assert isinstance(copied, type(model))
    assert torch.equal(copied(x), swapped(x))
    assert list(copied.state_dict()) == list(swapped.state_dict())


def test_swap_results_have_equal_descriptions_only_for_equal_swaps():
    model = Functional()
    same = [hash_description(describe(swap(model, {"relu": "tanh"}))) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != hash_description(describe(swap(model, {"relu": "elu"})))


@pytest.mark.parametrize("model_class", [ConvNet, functools.partial(NeuralNet, activation=F.relu)])
def test_swap_result_can_be_trained(model_class):
    torch.manual_seed(0)
    data = load_data("digits")
    model_class = skorch.NeuralNetClassifier(
        swap(model_class(num_features=64), {"relu": nn.PReLU}),
        criterion=nn.CrossEntropyLoss,
        optimizer__momentum=0.9,
        lr=0.03,
        batch_size=64,
        max_epochs=8,
        train_split=None,
        verbose=0,
    )
    model_class.fit(data.X, data.y)
    slopes = [part.weight.item() for part in model_class.module_.modules() if isinstance(part, nn.PReLU)]
    assert all(slope != 0.25 for slope in slopes)
    assert len(set(slopes)) == len(slopes)
    assert np.mean(model_class.predict(data.X) == data.y) > 0.5


@pytest.mark.parametrize("activation", ["relu", F.gelu, nn.ReLU()])
def test_swap_in_a_torch_transformer_disables_fused_kernels(activation):
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation=activation, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    swapped = swap(model, dict.fromkeys(list_paths(model), nn.Tanh))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation=torch.tanh, batch_first=True)
        written = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    written.load_state_dict(model.state_dict())
    x, padding = torch.randn(2, 3, 8), torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad():
        torch.testing.assert_close(swapped(x), written(x))
        arguments = {"src_key_padding_mask": padding}
        torch.testing.assert_close(swapped(x, **arguments), written(x, **arguments))


# -- properties ----------------------------------------------------------------------------------------------

leaves = st.sampled_from([nn.ReLU, nn.Tanh, nn.Flatten, Functional, Tanhs, Helped, Holding])
models = st.recursive(
    leaves.map(lambda leaf: leaf()),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: nn.Sequential(*parts)),
    max_leaves=6,
)


@settings(deadline=None)
@given(models)
def test_swap_and_swap_back_give_the_same_outputs(model):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), model)
    forward_swap = swap(model, {"relu": "sine"})
    assert "relu" not in list_paths(forward_swap)
    assert list_paths(forward_swap).get("tanh") == list_paths(model).get("tanh")
    backward_swap = swap(forward_swap, {"sine": nn.ReLU})
    x = torch.randn(3, 4)
    assert torch.equal(backward_swap(x), model(x))
    assert list(backward_swap.state_dict()) == list(model.state_dict())
