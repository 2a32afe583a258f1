from .gaussian_moments import GaussianMoments as GaussianMoments
from .gaussian_moments import gain as gain
from .gaussian_moments import gaussian_moments as gaussian_moments
from .initialization import init_ as init_
from .networks import ConvNet as ConvNet
from .networks import NeuralNet as NeuralNet
from .swapping import find_activations as find_activations
from .swapping import swap as swap
