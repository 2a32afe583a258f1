"""Every activation as a module, under torch.nn's names and with its arguments."""

from actlab.functions.rectifiers import LeakyReLU, ReLU
from actlab.functions.sigmoids import Sigmoid, Tanh

__all__ = ["LeakyReLU", "ReLU", "Sigmoid", "Tanh"]
