from .comparison import Comparison as Comparison
from .comparison import Interrupted as Interrupted
from .comparison import compare as compare
