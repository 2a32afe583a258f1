"""Every activation as a module, under torch.nn's names and with its arguments."""

from actlab.functions.exponentials import (
    CELU,
    ELU,
    ISRLU,
    SELU,
    Exponential,
    Gaussian,
    Softplus,
    SparsePlus,
    Squareplus,
)
from actlab.functions.rectifiers import (
    BReLU,
    Hardswish,
    LeakyReLU,
    ReLU,
    ReLU6,
    ReLUSquared,
    RReLU,
    Threshold,
)
from actlab.functions.shrinkage import Hardshrink, Softshrink, Tanhshrink
from actlab.functions.sigmoids import (
    ISRU,
    Hardsigmoid,
    Hardtanh,
    LogSigmoid,
    Sigmoid,
    Softsign,
    SparseSigmoid,
    Tanh,
)
from actlab.functions.trainable import PReLU, StarReLU

__all__ = [
    "CELU",
    "ELU",
    "ISRLU",
    "ISRU",
    "SELU",
    "BReLU",
    "Exponential",
    "Gaussian",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReLUSquared",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SparsePlus",
    "SparseSigmoid",
    "Squareplus",
    "StarReLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]
