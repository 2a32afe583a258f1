"""Every activation as a function, under torch.nn.functional's names."""

from actlab.functions.exponentials import (
    celu,
    elu,
    exponential,
    gaussian,
    isrlu,
    selu,
    softplus,
    sparse_plus,
    squareplus,
)
from actlab.functions.rectifiers import (
    clipped_relu,
    hardswish,
    leaky_relu,
    relu,
    relu6,
    relu_squared,
    rrelu,
    threshold,
)
from actlab.functions.shrinkage import hardshrink, softshrink, tanhshrink
from actlab.functions.sigmoids import (
    hardsigmoid,
    hardtanh,
    isru,
    logsigmoid,
    sigmoid,
    softsign,
    sparse_sigmoid,
    tanh,
)
from actlab.functions.trainable import prelu, star_relu

__all__ = [
    "celu",
    "clipped_relu",
    "elu",
    "exponential",
    "gaussian",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "isrlu",
    "isru",
    "leaky_relu",
    "logsigmoid",
    "prelu",
    "relu",
    "relu6",
    "relu_squared",
    "rrelu",
    "selu",
    "sigmoid",
    "softplus",
    "softshrink",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "star_relu",
    "tanh",
    "tanhshrink",
    "threshold",
]
