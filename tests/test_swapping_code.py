"""swap in forwards with all kinds of code: calls that it replaces, and calls that it rejects."""

import copy
import functools
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

import actlab
from actlab import UsageError, swap
from tests.swaps import Helped, list_paths, one_thread

__all__ = ["one_thread"]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)


def scaled(forward):
    @functools.wraps(forward)
    def wrapper(*args, **kwargs):
        return forward(*args, **kwargs) * 1

    return wrapper


def activated(forward):
    def wrapper(self, x):
        return F.relu(forward(self, x))

    return wrapper


# -- code that swap rewrites ------------------------------------------------------------------------------


class EmptyConstants(Layer):
    def forward(self, x, skip=()):
        for _ in ():
            pass
        return F.relu(self.fc(x), *()) if tuple({}) == () else x


class FormattedText(Layer):
    text = "()text"

    def forward(self, x):
        return F.relu(self.fc(x)) if f"{()!r:>{2}}{'text'}" == self.text else x


class TryBlock(Layer):
    def forward(self, x):
        try:
            return F.relu(self.fc(x))
        except ZeroDivisionError as error:
            raise ValueError from error
        finally:
            del x


class Generator(Layer):
    def forward(self, x):
        first, *_ = (F.relu(h) for h in [self.fc(x) for _ in range(1)])
        return first


class Walrus(Layer):
    def forward(self, x, *rest, key=(), **more):
        return (h := F.relu(self.fc(x))) + h * 0


class Nested(Layer):
    def forward(self, x):
        def outer(y):
            return (lambda z: F.relu(z))(y)

        return outer(self.fc(x))


class Lambda(Layer):
    forward = lambda self, x: F.relu(self.fc(x))  # noqa: E731


class NeedsArguments(Layer):
    def __init_subclass__(cls, /, size=1, **more):
        cls.size = size

    def forward(self, x):
        return F.relu(self.fc(x))


class WithArguments(NeedsArguments, size=3):
    pass


class Pattern(Layer):
    def forward(self, x):
        match x.shape:
            case (_, 4):
                x = F.relu(self.fc(x))
        return x


class OnlyIfNone(Layer):
    def forward(self, x, mask=None):
        x = self.fc(x)
        return F.relu(x) if mask is None else x * mask


class Coroutine(Layer):
    async def forward(self, x):
        return F.relu(self.fc(x))


class Yielding(Layer):
    def forward(self, x):
        yield F.relu(self.fc(x))


class NoGradient(Layer):
    @torch.no_grad()
    def forward(self, x):
        return F.relu(self.fc(x))


class Compiled(Layer):
    @torch.compile(backend="eager")
    def forward(self, x):
        return F.relu(self.fc(x))


class Decorated(Layer):
    @scaled
    def forward(self, x):
        return F.relu(self.fc(x)) if x.sum() > 0 else x


class InDecorator(Layer):
    @activated
    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


class Cached(Layer):
    @functools.lru_cache  # noqa: B019
    def forward(self, x):
        return F.relu(self.fc(x))


class OwnCall(Layer):
    def __call__(self, x):
        return F.relu(self.fc(x))


class AroundForward(Layer):
    def __call__(self, x):
        return F.relu(super().__call__(x))

    def forward(self, x):
        return self.fc(x)


class OfTensors(Layer):
    def forward(self, x):
        return torch.Tensor.relu(self.fc(x))


class Recursing(Layer):
    def forward(self, x):
        return self.forward(F.relu(self.fc(x)))


class Exiting(Layer):
    def forward(self, x):
        if type(x) is not torch.Tensor:
            sys.exit("not a tensor")
        return F.relu(self.fc(x))


class Hostile:
    """An object that raises for every attribute."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


shared_relu = nn.ReLU()


def asking():
    hostile = Hostile()

    class AskingTheHostile(Layer):
        def forward(self, x):
            if x.sum() > 1:
                hostile.relu(x, hostile)
            return F.relu(self.fc(x))

    return AskingTheHostile


class GlobalModule(Layer):
    def forward(self, x):
        return shared_relu(self.fc(x))


MODELS = [
    EmptyConstants, FormattedText, TryBlock, Generator, Walrus, Nested, Lambda,
    WithArguments, Pattern, OnlyIfNone, Compiled, NoGradient, Decorated, InDecorator,
    Cached, OwnCall, AroundForward, OfTensors, Exiting, asking(), GlobalModule,
]  # fmt: skip


@pytest.mark.parametrize("model_class", MODELS)
def test_swap_replaces_a_call_in_any_code(model_class):
    model = nn.Sequential(model_class())
    assert list(list_paths(model)) == ["relu"]
    swapped, x = swap(model, {"relu": "mish"}), torch.full((3, 4), 0.05)
    torch.testing.assert_close(swapped(x), F.mish(model[0].fc(x)))
    assert list(list_paths(swapped)) == ["mish"]


@pytest.mark.parametrize("model_class", [Coroutine, Yielding, Recursing])
def test_swap_replaces_a_call_in_a_forward_that_returns_no_tensor(model_class):
    swapped = swap(nn.Sequential(model_class()), {"relu": "mish"})
    assert list(list_paths(swapped)) == ["mish"]


# -- code that swap cannot rewrite --------------------------------------------------------------------------


class Starred(Layer):
    def forward(*args):
        self, x = args
        return F.relu(self.fc(x))


class PartOfMethod(Layer):
    def go(self, scale, x):
        return F.relu(self.fc(x)) * scale

    forward = functools.partialmethod(go, 2)


class AttributeForward(Layer):
    def __init__(self):
        super().__init__()
        self.forward = functools.partial(self.go, 2)

    def go(self, scale, x):
        return F.relu(self.fc(x)) * scale


@pytest.mark.parametrize(
    ("model_class", "problem"),
    [
        (Starred, "forward does not name its first argument"),
        (PartOfMethod, "it is in PartOfMethod.go, not in a method of its class"),
        (AttributeForward, "forward is an attribute of the module, not a method of its class"),
    ],
)
def test_swap_names_the_module_whose_code_it_cannot_rewrite(model_class, problem):
    model = nn.Sequential(nn.Tanh(), model_class())
    result = list_paths(model)
    assert list(result) == ["tanh", "relu"]
    assert all(path.startswith("1.") for path in result["relu"])
    message = rf"^swap: 1: {model_class.__name__}.forward calls .*: {problem}; make it a separate module; or"
    with pytest.raises(UsageError, match=message):
        swap(model, {"relu": "mish"})
    assert list_paths(model) == result
    assert type(swap(model, {"tanh": "mish"})[1]) is model_class


def at_run_time():
    scope = {"F": F, "Layer": Layer, "__name__": "nowhere"}
    exec("class Late(Layer):\n def forward(self, x): return F.relu(self.fc(x)) if not () else ()", scope)  # noqa: S102
    return scope["Late"]


def test_find_activations_omits_unreadable_code():
    def unfinished():
        class EmptyCell(Layer):
            def forward(self, x):
                return later(self.fc(x)) if x.sum() > 0 else x

        return EmptyCell()
        later = F.relu

    silent = Layer()
    vars(silent)["hostile"] = Hostile()
    model = nn.Sequential(unfinished(), silent, at_run_time()(), nn.ReLU())
    assert list_paths(model) == {"relu": ["3"]}


def test_swap_reports_why_a_model_cannot_be_copied():
    model = Helped()
    model.lock = threading.Lock()
    with pytest.raises(
        UsageError, match=r"swap: the model cannot be copied: TypeError: .*; pass inplace=True"
    ):
        swap(model, {"relu": "tanh"})
    x = torch.randn(2, 4)
    expected = torch.tanh(model.fc(x)) * 2
    assert torch.equal(swap(model, {"relu": "tanh"}, inplace=True)(x), expected)


# -- scripted, exported and compiled models ------------------------------------------------------------------


class Both(Layer):
    def __init__(self):
        super().__init__()
        self.act = nn.GELU()

    def forward(self, x):
        return self.act(torch.relu(self.fc(x)))


def exported():
    return torch.export.export(Both(), (torch.zeros(2, 4),)).module()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")
@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: torch.jit.script(Both()), "relu"),
        (lambda: torch.jit.script(Both()), "gelu"),
        (lambda: torch.jit.trace(Both(), torch.zeros(2, 4)), "relu"),
        (exported, "relu"),
        (exported, "gelu"),
        (lambda: fx.symbolic_trace(Both()), "relu"),
    ],
)
def test_swap_rejects_a_scripted_forward_with_advice(make, key):
    model = nn.Sequential(make(), nn.Tanh())
    assert list(list_paths(model)) == [
        "tanh",
        *sorted(["gelu", "relu"], key=key.__eq__, reverse=False),
    ] or (set(list_paths(model)) == {"tanh", "gelu", "relu"})
    with pytest.raises(UsageError, match=r"swap: 0.* before the model is (traced, exported or )?scripted;"):
        swap(model, {key: "mish"})
    assert isinstance(swap(model, {"tanh": nn.ELU})[1], nn.ELU)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_swap_replaces_a_scripted_activation_in_an_eager_model():
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.ReLU()))
    assert list_paths(model) == {"relu": ["1"]}
    swapped, x = swap(model, {"relu": "mish"}), torch.randn(2, 4)
    assert torch.equal(swapped(x), actlab.functional.mish(model[0](x)))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("last", [nn.ReLU(), TryBlock()])
def test_swap_works_in_a_compiled_model(last, inplace):
    model = torch.compile(nn.Sequential(nn.Linear(4, 4), copy.deepcopy(last)), backend="eager")
    x, first = torch.randn(2, 4), model._orig_mod[0]
    before = model(x)
    expected = torch.tanh(getattr(last, "fc", nn.Identity())(first(x)))
    swapped = swap(model, {"relu": nn.Tanh}, inplace=inplace)
    assert torch.equal(swapped(x), expected)
    assert torch.equal(model(x), expected if inplace else before)
