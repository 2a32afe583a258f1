from .hiplot import to_hiplot as to_hiplot
from .hiplot_experiment import Experiment as Experiment
from .mlflow import log_comparison as log_comparison
