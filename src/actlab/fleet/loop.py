"""Train the runs of one fleet: batches, losses, schedules, early stopping, history."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from actlab.errors import summarize_error
from actlab.fleet.diagnostics import ROWS, summarize_records, try_saved_bytes
from actlab.fleet.early_stopping import EarlyStopper
from actlab.fleet.lr_schedule import LearningRate
from actlab.fleet.module_state import StateChanged, StateWatch
from actlab.fleet.optimizers import OPTIMIZERS
from actlab.fleet.run import Epoch, FailureKind, Result, Rows, Run
from actlab.fleet.sequential_step import create_step, mean_losses
from actlab.fleet.trace import trace_layers

EpochCallback = Callable[[Sequence[Epoch]], None]
_BEST = {"train_loss": min, "valid_loss": min, "valid_acc": max}
_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 27}  # numbers of input evaluated in one piece: it stays in cache


@dataclass(frozen=True)
class Data:
    """The inputs and targets of all runs, on the device.

    Args:
        X: Inputs (n, ...).
        y: Targets (n, ...): class indices (int64) or numbers.
    """

    X: Tensor
    y: Tensor

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (R, n, ...) of the samples with these indices (R, n)."""
        flat = rows.reshape(-1)
        x, targets = (torch.index_select(part, 0, flat) for part in (self.X, self.y))
        return _cut(x, rows), _cut(targets, rows)


def _cut(flat: Tensor, rows: Tensor) -> Tensor:
    return flat.view(*rows.shape, *flat.shape[1:])


class RunState:
    """A run of the fleet with its result so far."""

    def __init__(self, run: Run) -> None:
        self.run, self.result = run, Result()
        self.orders = run.orders()
        self.learning_rate = LearningRate(run) if run.schedule else None
        self.stopper = EarlyStopper(run.stopping) if run.stopping else None
        self.best: dict[str, Tensor] = {}  # the weights to restore

    def ends(self, figures: dict[str, float], seconds: float) -> bool:
        """Append an epoch to the history; return whether the run ends early."""
        history, row = self.result.history, {"epoch": len(self.result.history) + 1, **figures}
        for name, better in _BEST.items():
            if name in figures:
                before = [past[name] for past in history]
                row[f"{name}_best"] = not before or better(*before, row[name]) != better(before)
        row["dur"] = seconds
        history.append(row)
        self.result.seconds += seconds
        wrong = [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]
        if wrong:
            self.result.failure = f"{FailureKind.DIVERGED}: {wrong[0]} in epoch {row['epoch']}"
            return True
        if self.learning_rate:
            self.learning_rate.after_epoch(row)
        return bool(self.stopper and self.stopper.stops(row))


class Loop:
    """Trains the runs of one fleet.

    Args:
        runs: Runs that the plan put into one group.
        layer_by_layer: Whether the networks are sequential and use explicit gradients.
        data: Inputs and targets.
        draws: Whether the network, the only one of the fleet, draws random numbers during training.
    """

    def __init__(self, runs: Sequence[Run], layer_by_layer: bool, data: Data, draws: bool = False) -> None:
        self.first, self.data, self.draws = runs[0], data, draws
        self.device, self.diagnostic_epochs = data.X.device, runs[0].diagnostic_epochs
        self.members = [RunState(run) for run in runs]
        self.here = list(self.members)  # runs that are still training, one row of the stack each
        self.modules = [run.build() for run in runs]
        self.loss = copy.deepcopy(self.first.loss).to(self.device)
        self.bytes_by_factory: dict[Callable[[], nn.Module], int | None] = {}
        self.line = trace_layers(self.modules[0]) if layer_by_layer else None
        self._set_up()

    def _set_up(self) -> None:
        run, bfloat16 = self.first, self.first.precision == "bf16"
        self.step = create_step(self.modules, self.line, self.loss, run.device, bfloat16)
        # Every module of a stack is called through the first.
        self.state = StateWatch(self.modules[0]) if self.step.calls_modules else None
        stack = self.step.stack
        optimizers = [member.run.optimizer for member in self.here]
        self.optimizer = OPTIMIZERS[run.optimizer.name](optimizers, stack.weights, stack.grads)
        self.sums = torch.zeros(len(self.here), dtype=torch.float64, device=self.device)
        self.order: Tensor | None = None

    def train(self, report: EpochCallback | None = None, notes: list[str] | None = None) -> list[Result]:
        """Run all epochs.

        Args:
            report: Called after every epoch with the last record of each run that is still training.
            notes: Gets messages for the user.

        Returns:
            The result of each run, in the order of the runs.
        """
        noise = self.first.noise() if self.draws else contextlib.nullcontext()
        with torch.no_grad(), noise:
            return self._train(report, [] if notes is None else notes)

    def _train(self, report: EpochCallback | None, notes: list[str]) -> list[Result]:
        start, epochs = time.perf_counter(), self.first.epochs
        for epoch in range(1, epochs + 1):
            before, trained = time.perf_counter(), len(self.here)
            figures = self.epoch()
            if epoch & (epoch - 1) == 0 or epoch == epochs:  # 1, 2, 4, ...: a check can take 1 % of an epoch
                self._check_state()
            seconds = (time.perf_counter() - before) / trained
            over = [member.ends(row, seconds) for member, row in zip(self.here, figures, strict=True)]
            self._remember_best()
            if self.here[0].result.history[-1]["epoch"] in self.diagnostic_epochs:
                try:
                    self._diagnose()
                except Exception as error:  # raised by the user's module; training continues
                    notes.append(f"diagnostics failed: {summarize_error(error)}")
                    self.diagnostic_epochs = ()
            if report:
                report([member.result.history[-1] for member in self.here])
            if any(over):
                self._leave(over)
            if not self.here:
                break
        self._leave([True] * len(self.here))
        # The time outside of epochs is shared, too.
        rest = time.perf_counter() - start - sum(member.result.seconds for member in self.members)
        for member in self.members:
            member.result.seconds += rest / len(self.members)
        return [member.result for member in self.members]

    def epoch(self) -> list[dict[str, float]]:
        """Train one epoch and validate; return losses and accuracies of the runs that are still training."""
        run, order = self.first, self._orders()
        rows = min(order.shape[1], run.steps * run.batch_size)
        batches = torch.split(order[:, :rows], run.batch_size, 1)
        self._set_learning_rates()
        self.sums.zero_()
        for batch in batches:
            x, targets = self.data.batch(batch)
            self.sums.add_(self.step.gradients(x, targets), alpha=targets.shape[1])
            self.optimizer.step()
            if run.schedule and run.schedule.every == "batch":
                for member in self.here:
                    assert member.learning_rate is not None
                    member.learning_rate.after_batch()
                self._set_learning_rates()
        figures = {"train_loss": self.sums / rows}
        if run.valid is not None:
            figures.update(
                self._evaluate("valid", [m.run.valid for m in self.here if m.run.valid is not None])
            )
        columns = {name: value.tolist() for name, value in figures.items()}
        return [{n: values[i] for n, values in columns.items()} for i in range(len(self.here))]

    def _check_state(self) -> None:
        """Raise StateChanged if a network has changed state that a fleet does not store."""
        if self.state and (change := self.state.change()):
            raise StateChanged(change)

    def _orders(self) -> Tensor:
        if self.order is None or self.first.shuffle:
            self.order = torch.stack([next(member.orders) for member in self.here]).to(self.device)
        return self.order

    def _set_learning_rates(self) -> None:
        if self.first.schedule:
            numbers = [member.learning_rate.numbers() for member in self.here if member.learning_rate]
            for name in numbers[0]:
                self.optimizer.set(name, [each[name] for each in numbers])

    def _evaluate(self, part: str, rows: Sequence[Rows]) -> dict[str, Tensor]:
        """Return mean loss and accuracy of every network on its own samples, by column of the history."""
        total = len(rows[0])
        losses = torch.zeros(len(rows), dtype=torch.float64, device=self.device)
        hits = torch.zeros_like(losses)
        kept = self.step.stack.weights, *self.step.stack.fixed.values()
        before = [tensor._version for tensor in kept]
        for x, targets in self._pieces(rows):
            outputs = self.step.outputs(x)
            losses.add_(self._losses(outputs, targets), alpha=targets.shape[1])
            hits += _hits(outputs, targets, self.first.scoring)
        if before != [tensor._version for tensor in kept]:
            raise StateChanged(
                "the network changes its parameters or buffers in evaluation mode, "
                "but a fleet does not call it once per batch in this mode"
            )
        found = {f"{part}_loss": losses / total}
        return {**found, f"{part}_acc": hits / total} if self.first.scoring else found

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if len(outputs) == 1:  # the loss of a network that trains alone may not support vmap
            return mean_losses(self.loss, outputs[0], targets[0], True).reshape(1)
        return mean_losses(self.loss, outputs, targets, False)

    def _pieces(self, rows: Sequence[Rows]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets of these samples of each network, batch by batch."""
        size = len(rows) * max(1, self.data.X[0].numel())
        table = torch.stack([torch.as_tensor(r) for r in rows]).to(self.device)
        fits = max(1, _AT_ONCE[self.device.type] // size)
        for piece in torch.split(table, self.first.piece or fits, 1):
            yield self.data.batch(piece)

    def _diagnose(self) -> None:
        """Collect diagnostics, on validation samples if there are any."""
        here, epoch = self.here, self.here[0].result.history[-1]["epoch"]
        rows = [member.run.rows if member.run.valid is None else member.run.valid for member in here]
        table = torch.stack([torch.as_tensor(some[:ROWS]) for some in rows]).to(self.device)
        seen = self.step.diagnose(*self.data.batch(table))
        weights = {name: grad for name, grad in self.step.stack.grad_views.items() if grad.ndim > 2}
        for member, found in zip(here, summarize_records(len(here), epoch, seen, weights), strict=True):
            if not member.result.failure:
                member.result.diagnostics += found

    def _remember_best(self) -> None:
        for row, member in enumerate(self.here):
            if member.stopper and member.stopper.rule.load_best and member.stopper.improved:
                member.best = self.step.stack.state(row)

    def _leave(self, over: Sequence[bool]) -> None:
        """Finish the runs that have ended; continue with the others in a smaller stack."""
        leaving = [row for row, left in enumerate(over) if left]
        for row in leaving:
            if self.here[row].best:
                self.step.stack.put(row, self.here[row].best)
        if self.first.test is not None and leaving:
            test = self._evaluate("test", [m.run.test for m in self.here if m.run.test is not None])
            for row in leaving:
                self.here[row].result.test_loss = test["test_loss"][row].item()
                if self.first.scoring:
                    self.here[row].result.test_acc = test["test_acc"][row].item()
        if leaving:
            self._check_state()
        for row in leaving:
            member = self.here[row]
            member.result.how = self.step.how
            member.result.weights = self.step.stack.state(row)
            member.result.saved_bytes = self._saved_bytes(member.run, self.modules[row])
        kept = [row for row, left in enumerate(over) if not left]
        if not kept:
            self.here = []
            return
        step, optimizer = self.step, self.optimizer
        self.here, self.modules = [self.here[row] for row in kept], [self.modules[row] for row in kept]
        self._set_up()
        rows = torch.tensor(kept, device=self.device)
        self.step.stack.take(step.stack, rows)
        self.optimizer.take(optimizer, rows)

    def _saved_bytes(self, run: Run, module: nn.Module) -> int | None:
        """Return the bytes that a step of a run saves; measure them once for networks of one factory."""
        if run.net not in self.bytes_by_factory:
            batch_size = min(run.batch_size, len(run.rows))
            self.bytes_by_factory[run.net] = try_saved_bytes(module, self.data.X, batch_size)
        return self.bytes_by_factory[run.net]


def _hits(outputs: Tensor, targets: Tensor, scoring: str) -> Tensor:
    """Return how many samples each network classifies correctly, from outputs (R, n, ...)."""
    if scoring == "classes":
        return (outputs.argmax(2) == targets).sum(1)
    if scoring == "binary":
        return ((outputs.reshape(targets.shape) > 0) == (targets > 0.5)).sum(1)
    return outputs.new_zeros(len(outputs))
