"""A task: everything of a comparison except the activations."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.data.dataset import Dataset, compute_fingerprint
from actlab.data.load import is_image_set, load_data
from actlab.errors import UsageError, did_you_mean, raise_problems, summarize_error
from actlab.training.settings import TrainSettings, find_integer_problem

if TYPE_CHECKING:
    from actlab.comparison.scoring import Scorer
    from actlab.comparison.user_model import ModuleLike
    from actlab.data.load import Source


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, model, metric and training settings of a comparison. Only the activation varies.

    Args:
        name: The name in tables, such as ``"digits-cnn"``.
        description: What the model learns, in one line.
        data: A source for :func:`~actlab.load_data`, or a function that returns one.
        data_options: Arguments of :func:`~actlab.load_data`, such as ``regression=True``.
        samples: How many of the first samples to use; None for all.
        module: The model, as for :func:`actlab.compare`; None for the reference network.
        settings: The settings of training.
        scoring: As for :func:`actlab.compare`.
        seconds: About how long a run takes on one core, in seconds, for the estimate of the time left.

    Examples:
        >>> task = Task(name="small", description="a perceptron on iris", data="iris")
        >>> task.load().num_classes
        3
    """

    name: str
    description: str
    data: Source | Callable[[], Source]
    data_options: Mapping[str, Any] = field(default_factory=dict)
    samples: int | None = None
    module: ModuleLike | None = None
    settings: TrainSettings = field(default_factory=TrainSettings)
    scoring: str | Scorer | None = None
    seconds: float = 0.2

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            problems.append(f"the name of a task must be printable text, got {self.name!r}")
        if not isinstance(self.settings, TrainSettings):
            problems.append(f"settings must be an actlab.training.TrainSettings, got {self.settings!r}")
        if self.samples is not None:
            problems.append(find_integer_problem("samples", self.samples, 1))
        seconds = self.seconds
        if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            problems.append(f"seconds must be a number > 0, got {seconds!r}")
        options = self.data_options
        names = list(inspect.signature(load_data).parameters)[1:]  # the first one is the source
        if not isinstance(options, Mapping):
            problems.append(f"data_options must be a dictionary of arguments of load_data, got {options!r}")
        elif unknown := [name for name in options if name not in names]:
            hint = did_you_mean(str(unknown[0]), names)
            problems.append(f"data_options: {unknown[0]!r} is not an argument of load_data{hint}")
        raise_problems(problems)

    @property
    def needs_files(self) -> bool:
        """Whether the data are an image set such as MNIST, whose files do not come with scikit-learn."""
        return isinstance(self.data, str) and is_image_set(self.data)

    def load(self, data_dir: str | Path | None = None) -> Dataset:
        """Return the data.

        Args:
            data_dir: The folder with the files of image sets such as MNIST.

        Raises:
            UsageError: The files are missing, or the function that returns the data raised an error.
        """
        options = dict(self.data_options)
        if self.needs_files:
            if data_dir is None:
                raise UsageError(f"the files of {self.data} are missing; set data_dir (--data-dir)")
            options["data_dir"] = data_dir
        source = self.data
        if callable(source):
            try:
                source = source()
            except UsageError:
                raise
            except (Exception, SystemExit) as error:  # raised by the user's code
                raise UsageError(f"the data cannot be made: {summarize_error(error)}") from error
        dataset = load_data(source, **options)
        parts = {name: getattr(dataset, name) for name in ("X", "y", "encoded", "groups", "weights")}
        if self.samples is not None and self.samples < len(dataset.y):
            parts = {name: part if part is None else part[: self.samples] for name, part in parts.items()}
            features = parts["X"] if parts["encoded"] is None else parts["encoded"]
            parts["fingerprint"] = compute_fingerprint(features, parts["y"])
        return dataclasses.replace(dataset, **parts, name=self.name, channels="first")
