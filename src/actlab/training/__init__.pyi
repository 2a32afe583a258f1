from .settings import TrainSettings as TrainSettings
from .train import TrainingResult as TrainingResult
from .train import history_frame as history_frame
from .train import train as train
