"""A task: everything of a comparison except the activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.data.dataset import Dataset, compute_fingerprint
from actlab.data.load import is_image_set, load_data
from actlab.errors import UsageError, raise_problems, summarize_error
from actlab.training.settings import TrainSettings

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
            except Exception as error:  # raised by the user's code
                raise UsageError(f"the data cannot be made: {summarize_error(error)}") from error
        dataset = load_data(source, **options)
        parts = {name: getattr(dataset, name) for name in ("X", "y", "encoded", "groups", "weights")}
        if self.samples is not None and self.samples < len(dataset.y):
            parts = {name: part if part is None else part[: self.samples] for name, part in parts.items()}
            features = parts["X"] if parts["encoded"] is None else parts["encoded"]
            parts["fingerprint"] = compute_fingerprint(features, parts["y"])
        return dataclasses.replace(dataset, **parts, name=self.name, channels="first")
