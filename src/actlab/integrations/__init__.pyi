from .hiplot import HiPlotPage as HiPlotPage
from .hiplot import to_hiplot as to_hiplot
from .mlflow import log_comparison as log_comparison
