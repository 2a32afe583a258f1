from .comparison import plot_comparison as plot_comparison
from .comparison import plot_history as plot_history
from .figures import plot_figure as plot_figure
from .functions import plot_function as plot_function
