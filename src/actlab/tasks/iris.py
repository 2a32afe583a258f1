"""A small perceptron on scikit-learn's table iris."""

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="iris",
    description="perceptron on the iris table",
    data="iris",
    settings=TrainSettings(hidden=(32, 16), epochs=40, batch_size=32),
    seconds=0.01,
)
