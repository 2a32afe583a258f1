"""A perceptron of 30 hidden layers without normalization."""

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="deep-perceptron",
    description="perceptron of 30 layers without normalization on 8x8 digits",
    data="digits",
    settings=TrainSettings(hidden=(32,) * 30, epochs=25, optimizer="adam", lr=0.003),
    seconds=0.25,
)
