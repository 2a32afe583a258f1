"""Rows about the call itself: shapes, layouts, state, dtypes."""

from __future__ import annotations

import torch
from torch import Tensor

from actlab.checking.outcome import Failure, NotApplicable
from actlab.checking.subject import Subject


def numbers(x: Tensor) -> str:
    """Return a tensor's shape as text."""
    return str(tuple(x.shape))


def shape(subject: Subject) -> str:
    """The output has the shape of the input, or half of it along one dimension if it is gated."""
    x = subject.sample()
    y = subject.function()(x)
    if not isinstance(y, Tensor):
        raise Failure(f"returns a {type(y).__name__}, expected a tensor")
    if subject.kind == "other":
        raise Failure(f"input of shape {numbers(x)} gives {numbers(y)}, expected {numbers(x)}")
    return f"{numbers(x)} gives {numbers(y)}"


def kind(subject: Subject) -> str:
    """What the target is: element-wise, gated, or a function that mixes elements."""
    if subject.kind == "mixing":
        return "not element-wise: an element of the output depends on several of the input, as in softmax"
    if subject.kind == "gated":
        return "not element-wise: one half of the input gates the other"
    return "element-wise: an element of the output depends on its own input alone"


def input_unchanged(subject: Subject) -> str:
    """The input, and what else shares its memory, stays as it was."""
    if subject.works_in_place:
        raise NotApplicable("it was asked to work in place")
    x = subject.sample()
    before = x.clone()
    subject.function()(x)
    if not torch.equal(x, before):
        at = int((x != before).flatten().nonzero()[0])
        was, now = float(before.flatten()[at]), float(x.flatten()[at])
        raise Failure(f"an input element changed from {was:.6g} to {now:.6g}")
    return "forward leaves it as it was"


def deterministic(subject: Subject) -> str:
    """Two calls agree, whatever was called between them; a module may be random in training alone."""
    x, other = subject.sample(), subject.sample(seed=1)
    for train in (False, True):
        function = subject.fresh(train=train)
        torch.manual_seed(1)
        first, _, again = (function(z.clone()) for z in (x, other, x))
        if torch.equal(first, again):
            continue
        if train:
            torch.manual_seed(1)
            if torch.equal(first, function(x.clone())):
                return "in evaluation; random in training, from torch's generator"
            raise Failure("in training a call leaves something behind that changes the next")
        at = int((first != again).flatten().nonzero()[0])
        one, two = float(first.flatten()[at]), float(again.flatten()[at])
        where = f"x = {float(x.flatten()[at]):.6g}" if x.shape == first.shape else "the same input"
        raise Failure(f"{where} gave {one:.6g}, and {two:.6g} after another call")
    return "two calls agree, with another one between"


def dtype(subject: Subject) -> str:
    """The output has the dtype of the input, and the gradient too."""
    for chosen in (torch.float64, *subject.dtypes):
        x = subject.sample(dtype=chosen).requires_grad_()
        y = subject.function(chosen)(x)
        if y.dtype != chosen:
            raise Failure(f"{name(chosen)} in gives {name(y.dtype)} out")
        if y.requires_grad:
            (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y), allow_unused=True)
            if gradient is not None and gradient.dtype != chosen:
                raise Failure(f"{name(chosen)} in gives a gradient in {name(gradient.dtype)}")
    return "kept by " + ", ".join(name(d) for d in (torch.float64, *subject.dtypes))


def name(dtype: torch.dtype) -> str:
    """Return a dtype without its module."""
    return str(dtype).removeprefix("torch.")


def autocast(subject: Subject) -> str:
    """Under autocast to bfloat16 it runs, forward and backward, and stays near what it gives outside."""
    x = subject.sample(dtype=torch.float32)
    plain = subject.function(torch.float32)(x)
    x = x.detach().requires_grad_()
    with torch.autocast(subject.device.type, torch.bfloat16):
        y = subject.function(torch.float32)(x)
    if y.requires_grad:
        torch.autograd.grad(y.float().sum(), x, allow_unused=True)
    worst = float((y.float() - plain).abs().max())
    if not worst <= 0.05 * float(plain.abs().max().clamp_min(1)):
        raise Failure(f"under autocast values are off by {worst:.3g}")
    return f"float32 in gives {name(y.dtype)} out"


def non_contiguous(subject: Subject) -> str:
    """Transposed, strided and flipped views give what contiguous copies give."""
    base = subject.sample(2 * subject.width)
    square = torch.cat([base, base + 0.1], 1)[:, : 2 * subject.width]
    views = {
        "a transposed view": square[:, : subject.width].mT.contiguous().mT,
        "a strided view": square[::2, ::2],
        "a flipped view": base.flip(0)[::2],
    }
    return _same_as_contiguous(subject, views)


def expanded(subject: Subject) -> str:
    """Expanded tensors, whose elements share memory, give what contiguous copies give."""
    return _same_as_contiguous(subject, {"an expanded tensor": subject.sample()[:1].expand(5, -1)})


def _same_as_contiguous(subject: Subject, views: dict[str, Tensor]) -> str:
    for label, view in views.items():
        values, slopes = [], []
        for x in (view.detach(), view.detach().clone(memory_format=torch.contiguous_format)):
            leaf = x.requires_grad_()
            y = subject.function()(leaf)
            values.append(y.detach())
            if y.requires_grad:
                slopes.append(torch.autograd.grad(y.sum(), leaf, allow_unused=True)[0])
        for what, pair in (("value", values), ("gradient", slopes)):
            if len(pair) < 2 or pair[0] is None or pair[1] is None:
                continue
            if not torch.allclose(
                pair[0], pair[1], rtol=1e-9, atol=1e-12
            ):  # sums may be taken in another order
                raise Failure(f"{label} of strides {view.stride()} gives another {what} than its copy")
    return ", ".join(views) + ": as the copies"


def empty(subject: Subject) -> str:
    """A tensor without elements gives one of its shape."""
    x = subject.sample()[:0]
    y = subject.function()(x.requires_grad_())
    if subject.kind != "gated" and y.shape != x.shape:
        raise Failure(f"input of shape {numbers(x)} gives {numbers(y)}")
    if y.requires_grad:
        torch.autograd.grad(y.sum(), x, allow_unused=True)
    return f"{numbers(x)} gives {numbers(y)}"


def zero_dimensional(subject: Subject) -> str:
    """A tensor of no dimension gives one of no dimension, with the value of the same number in a row."""
    if subject.kind != "element-wise":
        raise NotApplicable("it needs a dimension")
    if subject.per_feature:
        raise NotApplicable("a parameter for each feature needs a dimension")
    x = torch.tensor(0.7, dtype=torch.float64, device=subject.device).requires_grad_()
    y = subject.function()(x)
    if y.shape != x.shape:
        raise Failure(f"input of shape () gives {numbers(y)}")
    expected = subject.value(x.detach().reshape(1))[0]
    if not torch.allclose(y, expected, rtol=1e-12):
        raise Failure(f"x = 0.7 gives {float(y):.6g}, in a row {float(expected):.6g}")
    return "() gives ()"
