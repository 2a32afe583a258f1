"""A straight line of layers, stepped by hand: no graph of the whole net, no call of a module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from actlab.fleet.layers import (
    Formula,
    Function,
    Layer,
    Linear,
    Local,
    PackedLinear,
    as_formula,
    module_function,
)
from actlab.fleet.losses import by_hand, one_net, plain
from actlab.fleet.packed import Batch, Packed
from actlab.fleet.stack import Stack

_NARROW = 32  # outputs


@dataclass(frozen=True)
class Link:
    """One place in the line.

    Attributes:
        kind: ``"linear"``, ``"formula"`` (a catalogue function), ``"module"`` or ``"function"``.
        name: The module's name in the net, with a dot at its end; empty for a function.
        text: What two nets must agree in at this place to be stepped together; a module says nothing of
            what it computes.
        apply: The function.
    """

    kind: str
    name: str
    text: str
    apply: Callable[[Tensor], Tensor] | None = None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Look into what contains a linear layer, and into nothing else."""
        return not _contains_linear(module)


def _contains_linear(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Linear) for part in module.modules() if part is not module)


def straight_line(module: nn.Module) -> list[Link] | None:
    """Return the layers of a net that passes one tensor through them, one after the other.

    Args:
        module: Any net.

    Returns:
        Its layers in order; None when it branches, uses a layer twice or not at all, does in training what
        it does not in evaluation, or cannot be traced.
    """
    was = module.training
    # Tracing calls the forward of what it looks into, and would miss its hooks.
    if any(_hooked(part) for part in module.modules() if _contains_linear(part)):
        return None
    with _tracing:
        try:
            lines = [_links(module.train(mode)) for mode in (True, False)]
        except Exception:  # anybody's forward, run on a proxy; autograd takes what cannot be traced
            return None
        finally:
            module.train(was)
    line = lines[0]
    if line is None or lines[1] is None or [link.text for link in line] != [link.text for link in lines[1]]:
        return None
    names = [link.name for link in line if link.name]
    known = {name for name, _ in module.named_parameters()}
    own = [
        name + part
        for name in names
        for part, _ in module.get_submodule(name[:-1]).named_parameters(remove_duplicate=False)
    ]
    return line if len(set(names)) == len(names) and sorted(own) == sorted(known) else None


def _hooked(module: nn.Module) -> bool:
    backward = module._backward_hooks or module._backward_pre_hooks
    return bool(module._forward_hooks or module._forward_pre_hooks or backward)


_tracing = threading.RLock()  # fx patches nn.Module for all threads while it traces


def _links(module: nn.Module) -> list[Link] | None:
    nodes = list(_Tracer().trace(module).nodes)
    links = []
    for before, node, after in zip(nodes, nodes[1:], nodes[2:], strict=False):
        if node.all_input_nodes != [before] or list(node.users) != [after] or node.args[:1] != (before,):
            return None
        link = _link(module, node)
        if link is None:
            return None
        links.append(link)
    ends = len(nodes) > 2 and nodes[0].op == "placeholder" and nodes[-1].op == "output"
    return links if ends and nodes[-1].args == (nodes[-2],) else None


def _link(net: nn.Module, node: fx.Node) -> Link | None:
    rest, kwargs = node.args[1:], node.kwargs
    if node.op == "call_module":
        if rest or kwargs:
            return None
        part, name = net.get_submodule(str(node.target)), f"{node.target}."
        if _hooked(part):
            return Link("module", name, "")
        if type(part) is nn.Linear and all(p.requires_grad for p in part.parameters()):
            return Link("linear", name, repr(part))
        if as_formula(part) is not None:
            return Link("formula", name, "")
        return Link("module", name, "")
    if node.op not in ("call_function", "call_method"):
        return None
    target = node.target if callable(node.target) else getattr(Tensor, node.target)

    def apply(x: Tensor) -> Tensor:
        result: Tensor = target(x, *rest, **kwargs)
        return result

    return Link("function", "", f"{node.target}{rest}{dict(kwargs)}", apply)


class Chain:
    """Steps R nets that are the same straight line, whatever their catalogue functions.

    Args:
        modules: The nets; equal activations stand together.
        line: The layers of the first, as :func:`straight_line` gives them.
        loss: The criterion.
        device: Where to compute.
        bfloat16: Whether matrix products take bfloat16 factors.
    """

    how = "by hand"

    def __init__(
        self, modules: Sequence[nn.Module], line: Sequence[Link], loss: nn.Module, device: str, bfloat16: bool
    ) -> None:
        self.stack = Stack(modules, _turned(modules[0], line), device)
        self.one = len(modules) == 1
        self.loss, self.plain = loss, plain(loss)
        self.training = False
        self.line, self.bfloat16 = line, bfloat16
        self.layers = [self._layer(link, modules, bfloat16) for link in line]

    def _layer(self, link: Link, modules: Sequence[nn.Module], bfloat16: bool) -> Layer:
        if link.kind == "linear":
            return Linear(self.stack, link.name, bfloat16)
        if link.apply is not None:
            apply = link.apply
            return Local(self.stack, lambda weights, x: apply(x), {})
        parts = [module.get_submodule(link.name.rstrip(".")) for module in modules]
        if link.kind == "formula":
            return Formula([formula for part in parts if (formula := as_formula(part)) is not None])
        own = [*dict(parts[0].named_parameters()), *dict(parts[0].named_buffers())]
        function = module_function(parts[0], lambda: self.training)
        return Local(self.stack, function, {name: link.name + name for name in own})

    @property
    def packable(self) -> bool:
        """Whether :meth:`pack` may be called."""
        return (
            self.one and self.line[0].kind == "linear" and f"{self.line[0].name}weight" in self.stack.turned
        )

    def pack(self, batches: Packed) -> None:
        """Train on batches without their background from now on."""
        self.layers[0] = PackedLinear(self.stack, self.line[0].name, self.bfloat16, batches)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs (R, n, ...) of the nets for their inputs (R, n, ...), in evaluation mode."""
        self.training = False
        y = x[0] if self.one else x
        for layer in self.layers:
            y = layer.forward(y, False)
        return y.unsqueeze(0) if self.one else y

    def gradients(self, x: Tensor | Batch, targets: Tensor) -> Tensor:
        """Write the gradients of the weights; return the losses (R,).

        Args:
            x: Inputs (R, n, ...), a packed batch after :meth:`pack`.
            targets: What the loss compares with, (R, n, ...).
        """
        self.training = True
        targets = targets[0] if self.one else targets
        y: Any = x[0] if self.one and isinstance(x, Tensor) else x
        for layer in self.layers:
            y = layer.forward(y, True)
        losses, grad = self._loss(y, targets)
        for place in range(len(self.layers) - 1, -1, -1):
            grad = self.layers[place].backward(grad, place == 0)
        return losses.reshape(-1)

    def _loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.plain and (outputs.ndim == targets.ndim or outputs.ndim == 3 - self.one):
            return by_hand(self.loss, outputs, targets, stacked=not self.one)
        outputs = outputs.requires_grad_()
        with torch.enable_grad():
            losses = losses_of(self.loss, outputs, targets, self.one)
            (grad,) = torch.autograd.grad(losses.sum(), outputs)
        return losses.detach(), grad


def _turned(module: nn.Module, line: Sequence[Link]) -> list[str]:
    """Return the matrices that are multiplied faster when they are kept as (in, out): not narrow ones."""
    layers = [(link.name, module.get_submodule(link.name[:-1])) for link in line if link.kind == "linear"]
    return [f"{name}weight" for name, layer in layers if len(layer.weight) >= _NARROW]  # type: ignore[arg-type]


class Autograd:
    """Steps R nets of any kind that agree in everything but their weights: vmap and autograd.

    Args:
        modules: The nets.
        loss: The criterion.
        device: Where to compute.
        bfloat16: Whether to compute under autocast.
    """

    how = "by autograd"

    def __init__(self, modules: Sequence[nn.Module], loss: nn.Module, device: str, bfloat16: bool) -> None:
        self.stack = Stack(modules, device=device)
        self.one = len(modules) == 1
        self.loss = loss
        self.autocast = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bfloat16)
        self.training = False
        function = module_function(modules[0], lambda: self.training)
        self.function: Function = function if self.one else torch.vmap(function)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs (R, n, ...) of the nets for their inputs (R, n, ...), in evaluation mode."""
        self.training = False
        y = self._apply(self.stack.views, x)
        return y.unsqueeze(0) if self.one else y

    def gradients(self, x: Tensor, targets: Tensor) -> Tensor:
        """Write the gradients of the weights; return the losses (R,).

        Args:
            x: Inputs (R, n, ...).
            targets: What the loss compares with, (R, n, ...).
        """
        self.training = True
        leaves = {name: view.detach().requires_grad_() for name, view in self.stack.views.items()}
        with torch.enable_grad():
            outputs = self._apply(leaves, x)
            losses = losses_of(self.loss, outputs, targets[0] if self.one else targets, self.one)
            grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        for (name, place), grad in zip(self.stack.grad_views.items(), grads, strict=True):
            if grad is None:  # torch.optim would leave it alone, and a row of a matrix cannot be left out
                raise ValueError(f"the loss does not depend on {name}")
            place.copy_(grad)
        return losses.detach().reshape(-1)

    def _apply(self, trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        weights: dict[str, Any] = {**trained, **self.stack.fixed}
        if self.one:
            weights, x = {name: value[0] for name, value in weights.items()}, x[0]
        with self.autocast:
            return self.function(weights, x).float() if self.autocast._enabled else self.function(weights, x)


Step = Chain | Autograd


def step_of(
    modules: Sequence[nn.Module], line: Sequence[Link] | None, loss: nn.Module, device: str, bfloat16: bool
) -> Step:
    """Return what steps these nets: by hand along their line, by autograd where there is none."""
    if line is not None:
        return Chain(modules, line, loss, device, bfloat16)
    return Autograd(modules, loss, device, bfloat16)


def losses_of(loss: nn.Module, outputs: Tensor, targets: Tensor, one: bool) -> Tensor:
    """Return the loss of one net (), or of every net of a stack (R,)."""
    if one:
        return one_net(loss, outputs, targets)
    return torch.vmap(lambda y, t: one_net(loss, y, t))(outputs, targets)
