from .comparison import plot_comparison as plot_comparison
from .comparison import plot_history as plot_history
from .functions import plot_function as plot_function
