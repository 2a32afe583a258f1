"""The reference perceptron on scikit-learn's digits."""

from actlab.tasks.task import Task

TASK = Task(
    name="digits-perceptron",
    description="perceptron on 8x8 digits",
    data="digits",
    seconds=0.06,
)
