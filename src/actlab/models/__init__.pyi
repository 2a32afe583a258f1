from .networks import ConvNet as ConvNet
from .networks import NeuralNet as NeuralNet
from .swapping import find_activations as find_activations
from .swapping import swap as swap
