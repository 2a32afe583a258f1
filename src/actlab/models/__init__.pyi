from .networks import ConvNet as ConvNet
from .networks import NeuralNet as NeuralNet
from .swapping import activations_in as activations_in
from .swapping import swap as swap
