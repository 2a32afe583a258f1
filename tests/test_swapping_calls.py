import contextlib
import copy
import functools
import importlib
import random
import sys

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import fx, nn
from torch.overrides import TorchFunctionMode

import actlab
from actlab import UsageError, swap
from actlab.models import find_activations
from tests.swaps import (
    Block,
    Functional,
    FunctionalBlock,
    Helped,
    Holding,
    Tanhs,
    list_paths,
    one_thread,
    pickle_and_load,
    residual,
)

__all__ = ["one_thread"]

SCALE = 3


@pytest.mark.parametrize("key", [nn.ReLU, "relu"])
def test_swap_of_functional_calls_equals_a_rewritten_model(key):
    model, written = Functional(), Tanhs()
    written.load_state_dict(model.state_dict())
    swapped = swap(model, {key: torch.tanh})
    x = torch.randn(6, 4)
    assert torch.equal(swapped(x), written(x))
    for model_class in (swapped, written):
        model_class(x).square().sum().backward()
    for name, parameter in written.named_parameters():
        assert torch.equal(swapped.get_parameter(name).grad, parameter.grad)


def test_swap_keeps_class_attributes_hooks_and_weight_names():
    model = Functional()
    model.note = "note"
    model.register_forward_hook(lambda module, args, output: output + 1)
    swapped = swap(model, {nn.ReLU: nn.PReLU})
    assert isinstance(swapped, Functional)
    assert swapped.note == "note"
    names = list(model.state_dict())
    assert list(swapped.state_dict()) == [*names, *(f"activation{i}.weight" for i in (1, 2, 3))]
    x = torch.zeros(1, 4)
    assert swapped(x).sum() > 3
    swapped.load_state_dict(model.state_dict(), strict=False)
    assert swap(model, {nn.ReLU: nn.Tanh}).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("F.gelu(y, approximate='tanh')", "gelu"),
        ("F.leaky_relu(y, 0.2)", nn.LeakyReLU),
        ("F.leaky_relu(negative_slope=0.2, input=y)", "leaky_relu"),
        ("F.elu(y, 1.0) + y", "elu"),
        ("F.hardtanh(y, -2.0, 2.0)", nn.Hardtanh),
        ("F.rrelu(y, training=True)", "rrelu"),
        ("F.threshold(y, 0.1, 20.0)", "threshold"),
        ("F.softplus(y, beta=2)", "softplus"),
        ("F.sigmoid(y)", nn.Sigmoid),
        ("y.sigmoid()", nn.Sigmoid),
        ("torch.Tensor.sigmoid(y)", nn.Sigmoid),
        ("torch.special.expit(y)", "sigmoid"),
        ("F.logsigmoid(y)", "logsigmoid"),
        ("actlab.functional.snake(y, 0.5)", "snake"),
        ("actlab.functional.mish(y)", actlab.nn.Mish),
        ("getattr(F, self.name)(y)", "silu"),
        ("FUNCTIONS['silu'](y)", "silu"),
        ("next(map(F.silu, [y]))", "silu"),
        ("nn.SiLU()(y)", "silu"),
        ("silu(y)", "silu"),
    ],
)
def test_swap_finds_functions_with_any_arguments(expression, key, tmp_path, monkeypatch):
    (tmp_path / "written.py").write_text(WRITTEN.format(expression))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "written", raising=False)
    model = importlib.import_module("written").Network()
    swapped, x = swap(model, {key: "sine"}), torch.randn(8)
    with_rest = x * 3 if key == "elu" else 0
    assert torch.equal(swapped(x), actlab.functional.sine(x * 3) + with_rest)


WRITTEN = """
import torch
import torch.nn.functional as F
from torch import nn
import actlab

FUNCTIONS = {{"silu": F.silu}}


class Network(nn.Module):
    name = "silu"

    def forward(self, x):
        from torch.nn.functional import silu

        y = x * 3
        return {}
"""


def test_find_activations_knows_functions_with_torch_modules():
    functions = [
        F.relu6,
        F.celu,
        F.selu,
        F.silu,
        F.mish,
        F.hardswish,
        F.hardsigmoid,
        F.softsign,
        F.tanhshrink,
    ]
    functions += [F.hardshrink, F.softshrink, F.tanh, torch.selu, torch.celu_, F.relu_, torch.sigmoid]
    for function in functions:
        holder = nn.Identity()
        holder.act = function
        assert list(list_paths(holder).values()) == [["act"]], function


def test_swap_replaces_functions_in_attributes():
    swapped = swap(Holding(), {"relu": "tanh", nn.LeakyReLU: nn.ELU})
    x = torch.randn(3, 4)
    assert torch.equal(swapped(x), F.elu(swapped.fc(torch.tanh(x))))
    assert list_paths(swapped) == {"tanh": ["act"], "elu": ["leaky"]}
    assert list_paths(swap(Holding(), {"act": "tanh"})) == {"tanh": ["act"], "leaky_relu": ["leaky"]}


def test_swap_finds_calls_in_methods():
    swapped, x = swap(Helped(), {"relu": "tanh"}), torch.randn(3, 4)
    assert torch.equal(swapped(x), torch.tanh(swapped.fc(x)) * 2)


def test_swap_creates_one_module_for_a_call_in_a_loop():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))

        def forward(self, x):
            for layer in self.layers:
                x = F.relu(layer(x))
            return x

    swapped = swap(Deep(), {nn.ReLU: nn.PReLU})
    assert sum(isinstance(part, nn.PReLU) for part in swapped.modules()) == 1
    swapped(torch.randn(2, 3)).sum().backward()


def test_swap_keeps_other_calls_for_later_swaps():
    class Both(nn.Module):
        def forward(self, x):
            return actlab.functional.mish(torch.tanh(x)) + F.relu(x)

    x = torch.randn(5)
    first = swap(Both(), {"relu": "sine(omega=1.0)"})
    assert torch.equal(first(x), actlab.functional.mish(torch.tanh(x)) + actlab.functional.sine(x, 1.0))
    second = swap(first, {"mish": "elu", "tanh": torch.sin})
    assert torch.equal(second(x), F.elu(x.sin()) + actlab.functional.sine(x, 1.0))
    assert list(list_paths(first)) == ["tanh", "mish", "sine"]


@pytest.mark.parametrize("training", [True, False])
def test_swap_of_modules_and_functions_agree_in_a_residual_network(training):
    torch.manual_seed(0)
    written = residual(Block, activation=nn.Tanh)
    written[1] = nn.Tanh()
    x = torch.randn(4, 1, 8, 8)
    for block in (Block, FunctionalBlock):
        model = residual(block)
        model.load_state_dict(written.state_dict())
        swapped = swap(model, {"relu": nn.Tanh}).train(training)
        torch.testing.assert_close(swapped(x), copy.deepcopy(written).train(training)(x), rtol=0, atol=0)
        assert list_paths(swapped).keys() == {"tanh"}


# -- kinds of forwards ----------------------------------------------------------------------------------


class Dropping(Helped):
    def forward(self, x):
        return F.dropout(F.relu(self.fc(x)), training=self.training)


class Deciding(Helped):
    def forward(self, x):
        x = F.relu(self.fc(x))
        if x.sum() > 0:
            x = torch.tanh(x)
        return x


class Asking(Helped):
    def forward(self, x, mask=None):
        x = F.relu(self.fc(x))
        return x if mask is None else x * mask


class Typing(Helped):
    def forward(self, x):
        x = x if isinstance(x, torch.Tensor) else x[0]
        return F.relu(self.fc(x))


class Counting(Helped):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return F.relu(self.fc(x))


class Remembering(Helped):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return F.relu(self.fc(x))


class Drawing(Helped):
    def forward(self, x):
        return F.relu(self.fc(x) * random.random())


class Noisy(Helped):
    def forward(self, x):
        return F.relu(self.fc(x) + torch.randn(4))


class Frozen(Helped):
    def forward(self, x):
        with torch.no_grad():
            x = self.fc(x)
        return F.relu(x)


class Recording(Helped):
    def forward(self, x):
        x = F.relu(self.fc(x))
        return x * 1 if torch.is_grad_enabled() else x


class Overwriting(Helped):
    def forward(self, x):
        x = self.fc(x)
        F.relu_(x)
        return x * 2


class Viewing(Helped):
    def forward(self, x):
        x = self.fc(x)
        x.view(-1).relu_()
        return x * 2


class Making(Helped):
    def forward(self, x):
        return nn.ReLU()(self.fc(x))


class Branching(Helped):
    def forward(self, x):
        residual = x = self.fc(x)
        x = F.relu(x, inplace=True)
        return x + residual


class Aliasing(Helped):
    def forward(self, x):
        x = self.fc(x)
        other = x
        x = F.relu(x, inplace=True)
        return x + other


class Training(Helped):
    def forward(self, x):
        return F.relu(self.fc(x)) if self.training else self.fc(x).relu() * 2


class Checkpointed(Helped):
    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)


class Mangled(Helped):
    def __body(self, x):
        return F.relu(self.fc(x))

    def forward(self, x, *, scale=SCALE):
        return self.__body(x) * scale


class Inherited(Deciding):
    def forward(self, x):
        return super().forward(x)


def outside(x, scale=SCALE):
    if scale == 0:
        return x
    return outside(F.relu(x), scale - 1) + middle(x)


def middle(x, /):
    return [F.relu(x) if x.ndim else outside(x)][0] * 2


class CallingOutside(Helped):
    first = staticmethod(outside)

    def forward(self, x):
        choose = {"middle": middle}.get
        return self.first(self.fc(x), scale=2) + choose("middle")(x)


@functools.wraps(outside)
def decorated(x):
    return outside(x)


class CallingDecorated(Helped):
    def forward(self, x):
        return decorated(self.fc(x))


class CallingAnother(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.inner = nn.Linear(4, 4), Helped()
        self.inner.forward = None

    def forward(self, x):
        return self.inner.body(self.fc(x))


class TanhForRelu(TorchFunctionMode):
    """Replace relu by tanh in all calls of a forward."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if str(getattr(func, "__name__", "")).rstrip("_") != "relu":
            return func(*args, **kwargs)
        result = torch.tanh(args[0])
        return args[0].copy_(result) if func.__name__.endswith("_") or kwargs.get("inplace") else result


FORWARDS = [
    Dropping,
    Deciding,
    Asking,
    Typing,
    Counting,
    Remembering,
    Drawing,
    Noisy,
    Frozen,
    Recording,
    Overwriting,
    Viewing,
    Branching,
    Aliasing,
    Making,
    Training,
    Mangled,
    Inherited,
    CallingOutside,
    CallingAnother,
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("model_class", FORWARDS)
def test_swap_of_a_forward_equals_the_other_function(model_class, inplace, training):
    model = nn.Sequential(nn.ModuleDict({"part": model_class()}), nn.ReLU()).train(training)[0]["part"]
    x, results = torch.randn(6, 4), []
    swapped = swap(model, {nn.ReLU: nn.Tanh}, inplace=inplace)
    assert "relu" not in list_paths(swapped)
    for part, mode in ((model_class(), TanhForRelu()), (swapped, contextlib.nullcontext())):
        torch.manual_seed(1)
        random.seed(1)
        part.load_state_dict(model.state_dict(), strict=False)
        part.train(training).zero_grad()
        with mode:
            y = part(x)
            y.square().sum().backward() if y.requires_grad else None
        results += [y, part.fc.weight.grad]
    torch.testing.assert_close(results[:2], results[2:], rtol=0, atol=0)


def test_swap_applies_to_recomputed_checkpoints():
    model = swap(Checkpointed(), {"relu": "tanh"})
    x = torch.randn(3, 4)
    model(x).square().sum().backward()
    gradient = model.fc.weight.grad.clone()
    model.zero_grad()
    torch.tanh(model.fc(x)).square().sum().backward()
    torch.testing.assert_close(gradient, model.fc.weight.grad)


class Writing(Helped):
    def forward(self, x):
        return torch.relu(self.fc(x), out=x)


REFUSED = {
    CallingDecorated: "it is in outside, not in a method of its class; make it a separate module",
    Writing: "it has the argument 'out'; remove it",
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("model_class", REFUSED)
def test_swap_rejects_calls_it_cannot_replace(model_class, inplace):
    model = nn.Sequential(nn.ReLU(), nn.ModuleDict({"part": model_class()}))
    shown, parts = repr(model), [id(part) for part in model.modules()]
    with pytest.raises(UsageError) as error:
        swap(model, {nn.ReLU: nn.Tanh}, inplace=inplace)
    message = str(error.value)
    assert message.startswith(f"swap: 1.part: {model_class.__name__}.forward calls ")
    assert "relu (test_swapping_calls.py:" in message
    assert (
        f", which cannot be replaced: {REFUSED[model_class]}; or exclude it with except_='1.part." in message
    )
    assert (repr(model), [id(part) for part in model.modules()]) == (shown, parts)


def test_find_activations_and_swap_name_the_line_of_a_call():
    line = Deciding.forward.__code__.co_firstlineno + 1
    assert [(place.path, place.code) for place in find_activations(Deciding())] == [
        (f"forward:{line}", f"F.relu, test_swapping_calls.py:{line}"),
        (f"forward:{line + 2}", f"torch.tanh, test_swapping_calls.py:{line + 2}"),
    ]
    line = outside.__code__.co_firstlineno + 3
    with pytest.raises(UsageError, match=rf"calls F.relu \(test_swapping_calls.py:{line}\), which cannot"):
        swap(CallingDecorated(), {"relu": "tanh"})


def test_find_activations_lists_a_method_of_another_module_once():
    line = Helped.body.__code__.co_firstlineno + 1
    assert list_paths(CallingAnother()) == {"relu": [f"inner.body:{line}"]}


@pytest.mark.parametrize("model_class", [Inherited, CallingOutside])
def test_swap_in_functions_outside_of_the_class_can_be_repeated_copied_and_pickled(model_class):
    model, x = model_class(), torch.full((2, 4), 0.3)
    first = pickle_and_load(copy.deepcopy(swap(model, {"relu": "sine"})))
    second = swap(first, {"sine": nn.ReLU})
    assert "sine" in list_paths(first)
    assert "relu" not in list_paths(first)
    assert not torch.equal(first(x), model(x))
    assert torch.equal(second(x), model(x))


def test_swap_replaces_one_call_in_a_function_outside_of_the_class():
    model, x = CallingOutside(), torch.randn(2, 4)
    path = f"middle:{middle.__code__.co_firstlineno + 1}"
    swapped, y = swap(model, {path: torch.sin}), model.fc(x)
    once = F.relu(F.relu(y)) + 2 * torch.sin(F.relu(y)) + 2 * torch.sin(y)
    torch.testing.assert_close(swapped(x), once + 2 * torch.sin(x))
    torch.testing.assert_close(middle(x), 2 * F.relu(x))


def test_swap_rejects_a_graph_module():
    with pytest.raises(
        UsageError, match=r"calls relu \(generated code\).*: torch generated its code; replace"
    ):
        swap(fx.symbolic_trace(Helped()), {"relu": "tanh"})


def test_find_activations_leaves_modes_and_random_state_unchanged():
    model = nn.Sequential(Functional(), nn.Sequential(Dropping()).eval())
    modes = [part.training for part in model.modules()]
    before = torch.get_rng_state()
    list_paths(model)
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("model_class", [Functional, Deciding, Dropping, Mangled, CallingOutside])
def test_swap_result_compiles_and_exports(model_class):
    model, x = swap(model_class(), {"relu": nn.Mish}).eval(), torch.randn(3, 4)
    whole = model_class is not Deciding
    with torch.no_grad():
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=whole)(x), model(x))
    if whole:
        assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))
        assert torch.equal(torch.func.functional_call(model, model.state_dict(), (x,)), model(x))


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ({"reluu": "tanh"}, "swap: 'reluu' is neither a catalogue name nor a path in the model (did you"),
        ({"part.1": "tanh"}, "swap: 'part.1' is neither a catalogue name nor a path in the model"),
        ({torch.relu: "tanh"}, "must be a module class, a catalogue name or a path"),
        ({int: "tanh"}, "swap: the key <class 'int'> must be a module class, a catalogue name or a path"),
        ({}, "swap: replacements is empty"),
        ({"gelu": "tanh"}, "nothing in the model matches 'gelu' (did you mean 'elu'?); the model has relu"),
        ({"mish": "tanh"}, "swap: nothing in the model matches 'mish'; the model has relu (0); elu (1)"),
        ({nn.ReLU: "tanh", nn.Tanh: "relu"}, "nothing in the model matches Tanh; the model has relu (0)"),
        ({"relu": "tanhh"}, "unknown activation 'tanhh' (did you mean 'tanh'?)"),
        ({"relu": nn.Threshold}, "replacement for 'relu': activation 'Threshold': Threshold.__init__()"),
        ({"relu": 3}, "swap: the replacement for 'relu': 3 is not an activation; pass a name such as"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inplace", [False, True])
def test_swap_rejects_invalid_keys_in_one_line(replacements, message, inplace):
    model = nn.Sequential(nn.ReLU(), nn.ELU())
    with pytest.raises(UsageError) as error:
        swap(model, replacements, inplace=inplace)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert [type(part) for part in model] == [nn.ReLU, nn.ELU]


def test_swap_reports_a_model_without_activations():
    with pytest.raises(UsageError, match="the model has no activations"):
        swap(nn.Linear(2, 2), {"relu": "tanh"})
    with pytest.raises(UsageError, match=r"the model must be an nn\.Module, got a function"):
        swap(F.relu, {"relu": "tanh"})
