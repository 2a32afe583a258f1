"""One net trained on one dataset, the same way every time."""

from __future__ import annotations

import contextlib
import math
import numbers
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import PrintLog
from skorch.dataset import ValidSplit

from actlab._errors import UsageError
from actlab.nets import ActivationLike, NeuralNet

if TYPE_CHECKING:
    from actlab.data import Dataset

HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "train_loss_best",
    "valid_acc",
    "valid_acc_best",
    "valid_loss",
    "valid_loss_best",
    "dur",
)
HELD_BACK = 5  # one row in five, 20 %, is held back for validation


@dataclass(frozen=True)
class TrainSettings:
    """How a net is trained; the defaults are the notebook's.

    Args:
        epochs: Passes over the training rows.
        batch_size: Rows in a step.
        lr: Learning rate of SGD.
        momentum: Momentum of SGD.
        seed: Where the initial weights, and whatever else is random, come from.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        num_units: Width of the first hidden layer.

    Raises:
        UsageError: Some values are impossible; the message names all of them.

    Examples:
        >>> TrainSettings(epochs=0, lr=-1.0)
        Traceback (most recent call last):
        actlab._errors.UsageError: epochs is 0, not a whole number of at least 1; lr is -1.0, not above 0
    """

    epochs: int = 25
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.95
    seed: int = 0
    device: str = "cpu"
    num_units: int = 128

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "num_units": 2, "seed": 0}
        problems = [whole_number_problem(name, getattr(self, name), low) for name, low in least.items()]
        if not (math.isfinite(self.lr) and self.lr > 0):
            problems.append(f"lr is {self.lr!r}, not above 0")
        if not 0 <= self.momentum < 1:
            problems.append(f"momentum is {self.momentum!r}, not from 0 to below 1")
        problems.append(_device_problem(self.device))
        raise_problems(problems)


def whole_number_problem(name: str, value: object, least: int) -> str:
    """Say what is wrong with an argument that must be a whole number; empty when nothing is."""
    if isinstance(value, numbers.Integral) and least <= int(value) < 2**63:
        return ""
    return f"{name} is {value!r}, not a whole number of at least {least}"


def raise_problems(problems: list[str]) -> None:
    """Raise one UsageError that names every problem; empty strings are none."""
    if found := [problem for problem in problems if problem]:
        raise UsageError("; ".join(found))


def _device_problem(name: str) -> str:
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        return f"device is {name!r}, not cpu, cuda or cuda:N"
    if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count()):
        return f"device is {name!r}, but PyTorch sees {count or 'no'} CUDA device{'s' * (count > 1)} here"
    return ""


class SeededNet(NeuralNetClassifier):  # type: ignore[misc]  # skorch is untyped
    """A skorch classifier whose result depends on data, settings and ``seed`` alone.

    Neither what ran before, nor which process runs it, nor the number of threads can change a digit;
    the caller's random state and thread count are as before when it returns.

    Args:
        *args: As for :class:`skorch.NeuralNetClassifier`.
        seed: Seeds the generator of the device for each fit.
        **kwargs: As for :class:`skorch.NeuralNetClassifier`.
    """

    def __init__(self, *args: Any, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed = seed

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> SeededNet:
        """Initialize and train; see :meth:`skorch.NeuralNetClassifier.fit`."""
        with _reproducible(self.seed, torch.device(self.device)), warnings.catch_warnings():
            # A class with fewer than five rows is spread as evenly as it can be, which is all we ask.
            warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
            self.interrupted_ = False
            super().fit(X, y, **fit_params)
        if self.interrupted_:
            raise KeyboardInterrupt
        return self

    def fit_loop(self, *args: Any, **kwargs: Any) -> SeededNet:
        """Run the epochs; see :meth:`skorch.NeuralNetClassifier.fit_loop`."""
        try:
            super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt:
            # skorch swallows it, and the half-trained net would be scored as if it were finished.
            self.interrupted_ = True
            raise
        return self

    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities; see :meth:`skorch.NeuralNetClassifier.predict_proba`."""
        with _reproducible(self.seed, torch.device(self.device)):  # a DataLoader draws a number per pass
            return super().predict_proba(X)


@contextlib.contextmanager
def _reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """Compute from a seeded generator and in one thread, so that sums are added in one order everywhere."""
    cuda = []
    if device.type == "cuda":
        cuda = [torch.cuda.current_device() if device.index is None else device.index]
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would also seed the devices that fork_rng does not put back.
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def make_net(
    dataset: Dataset,
    activation: ActivationLike,
    settings: TrainSettings,
    *,
    sink: Callable[[str], None] | None = None,
) -> SeededNet:
    """Make the untrained classifier: SGD with momentum, cross-entropy, 20 % held back for validation.

    Batches come in the order of the rows, as in the notebook: skorch does not shuffle unless told to.

    Args:
        dataset: Gives the number of features and of classes.
        activation: What :class:`~actlab.nets.NeuralNet` takes.
        settings: How to train.
        sink: Where the lines of skorch's live table go; None for no table.

    Returns:
        A net to ``fit``.
    """
    return SeededNet(
        NeuralNet,
        module__activation=activation,
        module__num_units=settings.num_units,
        module__num_features=dataset.num_features,
        module__num_classes=dataset.num_classes,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=settings.momentum,
        lr=settings.lr,
        max_epochs=settings.epochs,
        batch_size=settings.batch_size,
        device=settings.device,
        train_split=ValidSplit(HELD_BACK, stratified=True),
        callbacks__print_log=PrintLog(sink=sink) if sink else None,
        verbose=int(sink is not None),
        seed=settings.seed,
    )


def train(
    dataset: Dataset,
    activation: ActivationLike = "relu",
    settings: TrainSettings | None = None,
    *,
    sink: Callable[[str], None] | None = None,
) -> SeededNet:
    """Train the notebook's net on a dataset.

    Args:
        dataset: What to learn.
        activation: What :class:`~actlab.nets.NeuralNet` takes.
        settings: How to train; the notebook's settings when left out.
        sink: Where the lines of skorch's live table go; None for no table.

    Returns:
        The fitted net; :func:`history_frame` has its epochs.

    Raises:
        UsageError: The activation is unknown or does not fit, or the data has too few rows to hold some back.
    """
    settings = settings or TrainSettings()
    check_training(dataset, activation, settings)
    return make_net(dataset, activation, settings, sink=sink).fit(dataset.X, dataset.y)


def check_training(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> None:
    """Refuse, before any training, what :func:`train` cannot do.

    Args:
        dataset: What to learn.
        activation: What :class:`~actlab.nets.NeuralNet` takes.
        settings: How to train.

    Raises:
        UsageError: The message names all problems.
    """
    raise_problems([activation_problem(dataset, activation, settings), holdback_problem(dataset.y)])


def activation_problem(dataset: Dataset, activation: ActivationLike, settings: TrainSettings) -> str:
    """Say why a net with this activation cannot be built or run; empty when it can."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            net = NeuralNet(settings.num_units, activation, dataset.num_features, dataset.num_classes)
            shape = tuple(net(torch.from_numpy(dataset.X[:2])).shape)
    except UsageError as error:
        return str(error)
    except Exception as error:  # the activation may be anybody's code
        return f"activation {activation!r} fails in the net: {str(error).splitlines()[0]}"
    expected = (len(dataset.X[:2]), dataset.num_classes)
    return "" if shape == expected else f"activation {activation!r} gives {shape}, not {expected}"


def holdback_problem(y: np.ndarray[Any, np.dtype[np.int64]], folds: int = 1) -> str:
    """Say why a fifth of the training rows (n,) of every fold cannot be held back; empty when it can."""
    largest = int(np.bincount(y).max())
    left = largest - math.ceil(largest / folds) if folds > 1 else largest
    if left >= HELD_BACK:
        return ""
    return f"one row in {HELD_BACK} is held back for validation, but the largest class trains on {left} rows"


def history_frame(net: NeuralNetClassifier) -> pd.DataFrame:
    """Return what happened in each epoch.

    Args:
        net: A fitted net.

    Returns:
        One row per epoch. Columns, as far as the net was validated: ``epoch`` (from 1), ``train_loss`` and
        ``valid_loss`` (mean cross-entropy in nats), ``valid_acc`` (0 to 1), ``dur`` (seconds), and
        ``train_loss_best``, ``valid_acc_best``, ``valid_loss_best`` (whether no epoch before was as good).
    """
    columns = [column for column in HISTORY_COLUMNS if column in net.history[0]]
    return pd.DataFrame([{column: row[column] for column in columns} for row in net.history])
