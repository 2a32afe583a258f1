"""A small perceptron on scikit-learn's table wine."""

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="wine",
    description="perceptron on the wine table",
    data="wine",
    settings=TrainSettings(hidden=(32, 16), epochs=40, batch_size=32),
    seconds=0.02,
)
