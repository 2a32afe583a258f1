"""A small perceptron for a regression on scikit-learn's table diabetes."""

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="diabetes",
    description="regression on the diabetes table",
    data="diabetes",
    settings=TrainSettings(hidden=(32, 16), epochs=40, batch_size=32),
    seconds=0.03,
)
