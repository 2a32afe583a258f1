"""Train the runs of one fleet: batches, losses, schedules, early stopping, history."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from actlab.errors import summarize_error
from actlab.fleet.diagnostics import ROWS, measure_layers, try_saved_bytes
from actlab.fleet.early_stopping import EarlyStopper
from actlab.fleet.epoch_scores import EpochOutputs, EpochScorer
from actlab.fleet.losses import (
    WeightedLoss,
    append_weights,
    compute_loss_and_gradients,
    find_scoring,
    has_explicit_gradient,
)
from actlab.fleet.lr_schedule import ScheduleStepper
from actlab.fleet.module_state import StateChanged, StateWatch
from actlab.fleet.optimizers import OPTIMIZERS
from actlab.fleet.run import Epoch, FailureKind, Result, Rows, Run
from actlab.fleet.trace import trace_layers
from actlab.fleet.training_step import compute_losses, create_step
from actlab.models.trained_parameters import read_trained_parameters

EpochCallback = Callable[[Sequence[Epoch]], None]
_LOWER_IS_BETTER = {"train_loss": True, "valid_loss": True, "valid_acc": False}
# Input numbers of an evaluation batch: it fits the cache.
_EVALUATED_NUMBERS = {"cpu": 1 << 20, "cuda": 1 << 27}


@dataclass(frozen=True)
class DeviceData:
    """The inputs and targets of all runs, on the device.

    Args:
        X: Inputs (n, ...).
        y: Targets (n, ...): class indices (int64) or numbers.
    """

    X: Tensor
    y: Tensor

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (R, n, ...) of the samples with these indices (R, n)."""
        x, targets = (torch.index_select(values, 0, indices.reshape(-1)) for values in (self.X, self.y))
        return x.view(*indices.shape, *x.shape[1:]), targets.view(*indices.shape, *targets.shape[1:])


class RunState:
    """A run of the fleet with its result so far."""

    def __init__(self, run: Run, y: Tensor) -> None:
        self.run, self.result = run, Result()
        further = {rule.name: rule.lower_is_better for rule in run.scores}
        self.lower_is_better: dict[str, bool | None] = {**_LOWER_IS_BETTER, **further}
        if run.scores:
            y = y[torch.from_numpy(run.rows if run.valid is None else np.append(run.rows, run.valid))]
        self.scorers = [EpochScorer(rule, run.loss, y) for rule in run.scores]
        self.orders = run.iterate_orders()
        self.learning_rate = ScheduleStepper(run) if run.schedule else None
        self.stopper = EarlyStopper(run.stopping) if run.stopping else None
        self.best_weights: dict[str, Tensor] = {}  # to restore at the end

    def end_epoch(self, metrics: dict[str, float], seconds: float) -> bool:
        """Append an epoch to the history; return whether the run ends before its last epoch."""
        history, row = self.result.history, {"epoch": len(self.result.history) + 1, **metrics}
        for name, lower_is_better in self.lower_is_better.items():
            if name in metrics and lower_is_better is not None:
                sign = 1 if lower_is_better else -1
                earlier = [sign * epoch[name] for epoch in history if not math.isnan(epoch[name])]
                row[f"{name}_best"] = sign * row[name] < min(earlier, default=math.inf)
        row["dur"] = seconds
        history.append(row)
        self.result.seconds += seconds
        for name in ("train_loss", "valid_loss"):
            if not math.isfinite(value := metrics.get(name, 0.0)):
                self.result.failure = f"{FailureKind.DIVERGED}: {name} is {value} in epoch {row['epoch']}"
                return True
        if self.learning_rate:
            self.learning_rate.end_epoch(row)
        return bool(self.stopper and self.stopper.record(row))

    def score(self, index: int, parts: Mapping[bool, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Return the scores of an epoch, from the outputs and targets at this index."""
        pairs = zip(self.run.scores, self.scorers, strict=True)
        return {
            rule.name: scorer(*(values[index] for values in parts[rule.on_train]))
            for rule, scorer in pairs
            if rule.on_train in parts
        }


class Loop:
    """Trains the runs of one fleet.

    Args:
        runs: Runs that can train together.
        layer_by_layer: Whether the networks are sequential and use explicit gradients.
        data: Inputs and targets.
        draws: Whether the network, the only one of the fleet, draws random numbers during training.
        channels_last: If there is only one network, names of the convolutions to store in channels-last
            format.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        layer_by_layer: bool,
        data: DeviceData,
        draws: bool = False,
        channels_last: Collection[str] = (),
    ) -> None:
        self.first, self.data, self.draws = runs[0], data, draws
        self.device, self.diagnostic_epochs = data.X.device, runs[0].diagnostic_epochs
        self.states = [RunState(run, data.y) for run in runs]
        self.active = list(self.states)  # the runs that are still training, in the order of the stack
        self.modules = [run.build_initialized(data.X) for run in runs]
        self.loss = copy.deepcopy(self.first.loss).to(self.device)
        if (given := self.first.sample_weights) is not None:
            self.loss = WeightedLoss(self.loss, data.y)
            weights = np.resize(given / given.max(), len(data.y))  # their sums do not overflow
            y = append_weights(data.y, torch.from_numpy(weights).to(self.device))
            self.data = dataclasses.replace(data, y=y)
        self.bytes_by_factory: dict[Callable[[], nn.Module], int | None] = {}
        self.layers = trace_layers(self.modules[0]) if layer_by_layer else None
        self._set_up(channels_last or None)

    def _set_up(self, transposed: Collection[str] | None) -> None:
        """Create step and optimizer for the active runs."""
        run, bfloat16 = self.first, self.first.precision == "bf16"
        self.step = create_step(self.modules, self.layers, self.loss, run.device, bfloat16, transposed)
        # The first module is called for all networks of the stack.
        self.state_watch = StateWatch(self.modules[0]) if self.step.calls_modules else None
        stack = self.step.stack
        optimizers = [state.run.optimizer for state in self.active]
        self.optimizer = OPTIMIZERS[run.optimizer.name](optimizers, stack.weights, stack.grads)
        self.loss_sums = torch.zeros(len(self.active), dtype=torch.float64, device=self.device)
        self.order: Tensor | None = None

    def train(self, report: EpochCallback | None = None, notes: list[str] | None = None) -> list[Result]:
        """Train all epochs.

        Args:
            report: Called after every epoch with the last record of each run that is still training.
            notes: A list to which messages for the user are appended.

        Returns:
            The result of each run, in the order of the runs.
        """
        start = time.perf_counter()
        with torch.no_grad(), self.first.seed_noise() if self.draws else contextlib.nullcontext():
            for epoch in range(1, self.first.epochs + 1):
                ended = self._train_and_record(epoch, [] if notes is None else notes)
                if report:
                    report([state.result.history[-1] for state in self.active])
                if any(ended):
                    self._finish(ended)
                if not self.active:
                    break
            self._finish([True] * len(self.active))
        # The runs also share the time outside of epochs.
        rest = time.perf_counter() - start - sum(state.result.seconds for state in self.states)
        for state in self.states:
            state.result.seconds += rest / len(self.states)
        return [state.result for state in self.states]

    def _train_and_record(self, epoch: int, notes: list[str]) -> list[bool]:
        """Train an epoch and record it in the histories; return which runs end."""
        start = time.perf_counter()
        metrics = self.train_epoch()
        is_power_of_two = epoch & (epoch - 1) == 0  # a check can take 1 % of an epoch
        if is_power_of_two or epoch == self.first.epochs:
            self._check_state()
        seconds = (time.perf_counter() - start) / len(self.active)
        ended = [state.end_epoch(row, seconds) for state, row in zip(self.active, metrics, strict=True)]
        self._save_best_weights()
        if epoch in self.diagnostic_epochs:
            try:
                self._diagnose(epoch)
            except Exception as error:  # raised by the user's module; training continues
                notes.append(f"diagnostics failed: {summarize_error(error)}")
                self.diagnostic_epochs = ()
        return ended

    def train_epoch(self) -> list[dict[str, float]]:
        """Train one epoch and validate; return losses and accuracies of the active runs."""
        run, order = self.first, self._draw_order()
        samples = min(order.shape[1], run.steps * run.batch_size)
        self._apply_schedules()
        self.loss_sums.zero_()
        seen: Tensor | int = 0
        self.outputs = EpochOutputs(run.scores)
        for indices in torch.split(order[:, :samples], run.batch_size, 1):
            x, targets = self.data.batch(indices)
            count = self._count(targets)
            seen = seen + count
            self.loss_sums += self.step.compute_gradients(x, targets).double() * count
            self.outputs.add(self.step.outputs, targets, on_train=True)
            if run.clipping:
                self.step.stack.clip_grad_norms(*run.clipping)
            self.optimizer.step()
            if run.schedule and run.schedule.every == "batch":
                for state in self.active:
                    assert state.learning_rate is not None
                    state.learning_rate.end_batch()
                self._apply_schedules()
        metrics = {"train_loss": self.loss_sums / seen}
        if run.valid is not None:
            metrics |= self._evaluate("valid")
        columns = {name: values.tolist() for name, values in metrics.items()}
        rows = [{name: values[i] for name, values in columns.items()} for i in range(len(self.active))]
        parts = self.outputs.join()
        for index, (state, row) in enumerate(zip(self.active, rows, strict=True)):
            if all(map(math.isfinite, row.values())):  # scorers reject NaN
                row |= state.score(index, parts)
        return rows

    def _check_state(self) -> None:
        """Raise StateChanged if a network has changed state that a fleet does not store."""
        if self.state_watch and (change := self.state_watch.find_change()):
            raise StateChanged(change)

    def _draw_order(self) -> Tensor:
        """Return the indices of the samples (R, n) in the order of the next epoch."""
        if self.order is None or self.first.shuffle:
            self.order = torch.stack([next(state.orders) for state in self.active]).to(self.device)
        return self.order

    def _apply_schedules(self) -> None:
        if self.first.schedule:
            numbers = [state.learning_rate.numbers() for state in self.active if state.learning_rate]
            for name in numbers[0]:
                self.optimizer.set_number(name, [of_run[name] for of_run in numbers])

    def _evaluate(self, part: str, outcomes: list[Tensor] | None = None) -> dict[str, Tensor]:
        """Return mean loss and accuracy (R,) of the active runs, by column of the history.

        Args:
            part: ``"valid"`` or ``"test"``: the samples to evaluate on.
            outcomes: Gets the outcomes (R, n) of each batch, if they are defined.
        """
        samples: list[Rows] = [getattr(state.run, part) for state in self.active]
        losses = torch.zeros(len(samples), dtype=torch.float64, device=self.device)
        correct = torch.zeros_like(losses)
        seen: Tensor | int = 0
        writes = self.step.stack.count_writes()
        for x, targets in self._evaluation_batches(samples):
            outputs = self.step.compute_outputs(x)
            if part == "valid":
                self.outputs.add(outputs, targets, on_train=False)
            count = self._count(targets)
            seen = seen + count
            losses += self._compute_losses(outputs, targets).double() * count
            weights: Tensor | int = 1
            if isinstance(self.loss, WeightedLoss):
                targets, weights = self.loss.split(targets)
            found = _find_outcomes(outputs, targets, self.first.scoring, self.first.loss)
            if found is not None and self.first.scoring:
                correct += (found * weights).sum(1)
            if found is not None and outcomes is not None:
                outcomes.append(found)
        if writes != self.step.stack.count_writes():
            raise StateChanged(
                "the network changes its parameters or buffers in evaluation mode, "
                "but a fleet does not call it once per batch in this mode"
            )
        metrics = {f"{part}_loss": losses / seen}
        return {**metrics, f"{part}_acc": correct / seen} if self.first.scoring else metrics

    def _count(self, targets: Tensor) -> Tensor | int:
        """Return the number of samples of a batch with targets (R, n, ...), or the sums (R,) of weights."""
        return targets[..., -1].sum(1) if isinstance(self.loss, WeightedLoss) else targets.shape[1]

    def _compute_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if has_explicit_gradient(self.loss) and (outputs.ndim == targets.ndim or outputs.ndim == 3):
            # torch.vmap of the loss takes ten times as long, and imports SymPy.
            return compute_loss_and_gradients(self.loss, outputs, targets, stacked=True)[0]
        if len(outputs) == 1:  # the loss of a network that trains alone may not support vmap
            return compute_losses(self.loss, outputs[0], targets[0], True).reshape(1)
        return compute_losses(self.loss, outputs, targets, False)

    def _evaluation_batches(self, samples: Sequence[Rows]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets of the samples of each network, batch by batch."""
        numbers_per_index = len(samples) * max(1, self.data.X[0].numel())
        batch_size = self.first.piece or max(1, _EVALUATED_NUMBERS[self.device.type] // numbers_per_index)
        for indices in torch.split(self._stack_indices(samples), batch_size, 1):
            yield self.data.batch(indices)

    def _stack_indices(self, samples: Sequence[Rows]) -> Tensor:
        return torch.stack([torch.as_tensor(indices) for indices in samples]).to(self.device)

    def _diagnose(self, epoch: int) -> None:
        """Record diagnostics, on validation samples if there are any."""
        runs = [state.run for state in self.active]
        samples = [(run.rows if run.valid is None else run.valid)[:ROWS] for run in runs]
        records = self.step.diagnose(*self.data.batch(self._stack_indices(samples)))
        grads = {name: grad for name, grad in self.step.stack.grad_views.items() if grad.ndim > 2}
        diagnostics = measure_layers(len(runs), epoch, records, grads)
        for state, rows in zip(self.active, diagnostics, strict=True):
            if not state.result.failure:
                state.result.diagnostics += rows

    def _save_best_weights(self) -> None:
        for index, state in enumerate(self.active):
            if state.stopper and state.stopper.rule.load_best and state.stopper.improved:
                state.best_weights = self.step.stack.state_dict(index)

    def _finish(self, ended: Sequence[bool]) -> None:
        """Complete the results of the runs that have ended; continue with the others in a smaller stack."""
        finished = [index for index, has_ended in enumerate(ended) if has_ended]
        for index in finished:
            if best_weights := self.active[index].best_weights:
                self.step.stack.load_state_dict(index, best_weights)
        if finished:
            self._test(finished)
            self._check_state()
        for index in finished:
            state = self.active[index]
            state.result.how = self.step.how
            state.result.weights = weights = self.step.stack.state_dict(index)
            if not state.result.failure:
                network, paths = self.modules[index], state.run.activations
                state.result.parameters = read_trained_parameters(network, paths, weights)
            state.result.saved_bytes = self._saved_bytes(state.run, self.modules[index])
        self._keep_only([index for index, has_ended in enumerate(ended) if not has_ended])

    def _test(self, finished: Sequence[int]) -> None:
        """Evaluate the runs with these indices on their test samples, if there are any."""
        if self.first.test is None:
            return
        outcomes: list[Tensor] = []
        metrics = self._evaluate("test", outcomes)
        found = torch.cat(outcomes, 1).cpu().numpy() if outcomes else None
        for index in finished:
            self.active[index].result.outcomes = None if found is None else found[index].copy()
            for name, values in metrics.items():
                setattr(self.active[index].result, name, values[index].item())

    def _keep_only(self, remaining: Sequence[int]) -> None:
        """Continue with the runs with these indices."""
        self.active = [self.active[index] for index in remaining]
        if self.active:
            self.modules = [self.modules[index] for index in remaining]
            step, optimizer, indices = self.step, self.optimizer, torch.tensor(remaining, device=self.device)
            self._set_up(step.stack.transposed)  # the state of the optimizer has the same layout
            self.step.stack.copy_networks(step.stack, indices)
            self.optimizer.copy_networks(optimizer, indices)

    def _saved_bytes(self, run: Run, module: nn.Module) -> int | None:
        """Return the bytes that a step of a run saves; measure them once for networks of one factory."""
        if run.net not in self.bytes_by_factory:
            batch_size = min(run.batch_size, len(run.rows))
            self.bytes_by_factory[run.net] = try_saved_bytes(module, self.data.X, batch_size)
        return self.bytes_by_factory[run.net]


def _find_outcomes(outputs: Tensor, targets: Tensor, scoring: str, loss: nn.Module) -> Tensor | None:
    """Return the outcomes (R, n) of outputs (R, n, ...), as in :class:`Result`."""
    if scoring == "classes":
        return outputs.argmax(2) == targets
    is_several = targets.ndim == 3  # labels, without a score by epoch
    if kind := scoring or (find_scoring(loss) if is_several else ""):
        threshold = 0.5 if kind == "binary probabilities" else 0.0
        correct = (outputs.reshape(targets.shape) > threshold) == (targets > 0.5)
        correct = correct.reshape(*targets.shape[:2], -1)
        return correct.all(2) if scoring else correct.sum(2, dtype=torch.float32)
    if type(loss) is nn.MSELoss:
        errors = (outputs - targets).square().reshape(*targets.shape[:2], -1)
        return errors.mean(2, dtype=torch.float32)
    return None
