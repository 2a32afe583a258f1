"""Two convolutions and two linear layers on images of digits."""

from actlab.models.networks import ConvNet
from actlab.tasks.task import Task
from actlab.training.settings import TrainSettings

TASK = Task(
    name="digits-cnn",
    description="convolutional network on 8x8 digits",
    data="digits",
    module=ConvNet,
    settings=TrainSettings(hidden=(32,), epochs=9, optimizer="adam", lr=0.003),
    seconds=0.18,
)
