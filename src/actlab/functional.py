"""Every activation as a function, under torch.nn.functional's names."""

from actlab.functions.rectifiers import leaky_relu, relu
from actlab.functions.sigmoids import sigmoid, tanh

__all__ = ["leaky_relu", "relu", "sigmoid", "tanh"]
