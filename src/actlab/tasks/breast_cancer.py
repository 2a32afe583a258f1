"""A small perceptron on scikit-learn's table breast_cancer."""

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="breast-cancer",
    description="perceptron on the breast_cancer table",
    data="breast_cancer",
    settings=TrainSettings(hidden=(32, 16), epochs=40, batch_size=32),
    seconds=0.05,
)
