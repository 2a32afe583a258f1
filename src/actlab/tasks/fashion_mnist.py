"""The reference perceptron on the first 5,000 images of Fashion-MNIST."""

from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="fashion-mnist",
    description="perceptron on 5,000 images of Fashion-MNIST (--data-dir)",
    data="fashion-mnist",
    samples=5_000,
    settings=TrainSettings(epochs=4),
    seconds=0.11,
)
