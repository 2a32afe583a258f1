"""Gated functions: one half of the input times an activation of the other half."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import functional

from actlab.activation.definition import Activation, Facts
from actlab.activation.gated_activation import GatedActivation
from actlab.functions.rectifiers import relu
from actlab.functions.sigmoid_gated import gelu, silu
from actlab.functions.sigmoids import sigmoid

nan = math.nan


def make_gated_activation(
    name: str,
    *,
    gate: Activation[Any] | None,
    formula: str,
    paper: str,
    summary: str,
    torch_equivalent: str | None = None,
) -> GatedActivation:
    """Make the gated function of an activation.

    Args:
        name: Its name in the catalogue.
        gate: The activation of the second half; none for the plain product.
        formula: The textbook formula, in the halves ``a`` and ``b``.
        paper: Where it was published.
        summary: One line about it.
        torch_equivalent: The name of the same function in ``torch.nn``.

    Returns:
        The activation; it takes ``dim``, the dimension that is halved.

    Examples:
        >>> import actlab, torch
        >>> actlab.functional.reglu(torch.tensor([2.0, 3.0, -1.0, 4.0]))
        tensor([ 0., 12.])
    """

    def forward(input: Tensor, dim: int = -1) -> Tensor:
        return activation(input, dim)

    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = f"""{summary}

    Args:
        input: The tensor with both halves; the second is the gate.
        dim: The dimension that is halved.
    """
    unknown = (nan, nan)
    activation = GatedActivation(
        forward,
        Facts(
            formula=formula,
            limits=unknown,
            slopes=unknown,
            range=unknown,
            monotonic=False,
            paper=paper,
            torch_equivalent=torch_equivalent,
            gated=True,
        ),
    )
    activation.gate = gate
    if gate is not None:

        @activation.exported
        def _(x: Tensor, dim: int) -> Tensor:
            a, b = x.chunk(2, dim)
            return a * gate(b)

    return activation


glu = make_gated_activation(
    "glu",
    gate=sigmoid,
    formula="a / (1 + exp(-b))",
    paper="Dauphin et al. 2017",
    summary="Gated linear unit: one half of the input times the sigmoid of the other.",
    torch_equivalent="GLU",
)
glu.torch_operation(functional.glu)
glu.exported(functional.glu)
GLU = glu.module("GLU")

bilinear = make_gated_activation(
    "bilinear",
    gate=None,
    formula="a * b",
    paper="Dauphin et al. 2017; Shazeer 2020",
    summary="Bilinear unit: the product of the two halves of the input.",
)


@bilinear.torch_operation
def _(x: Tensor, dim: int) -> Tensor:
    a, b = x.chunk(2, dim)
    return a * b


Bilinear = bilinear.module("Bilinear")

reglu = make_gated_activation(
    "reglu",
    gate=relu,
    formula="a * max(b, 0)",
    paper="Shazeer 2020",
    summary="Rectified gated unit: one half of the input times the ReLU of the other.",
)
ReGLU = reglu.module("ReGLU")

geglu = make_gated_activation(
    "geglu",
    gate=gelu,
    formula="a * b * (1 + erf(b / sqrt(2))) / 2",
    paper="Shazeer 2020",
    summary="GELU-gated unit: one half of the input times the exact GELU of the other.",
)
GEGLU = geglu.module("GEGLU")

swiglu = make_gated_activation(
    "swiglu",
    gate=silu,
    formula="a * b / (1 + exp(-b))",
    paper="Shazeer 2020",
    summary="SiLU-gated unit: one half of the input times the SiLU of the other.",
)
SwiGLU = swiglu.module("SwiGLU")
