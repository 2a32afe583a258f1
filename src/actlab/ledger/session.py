"""A ledger session: the runs of one comparison or search, looked up, claimed and recorded."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from actlab.errors import UsageError
from actlab.fleet.run import Result, Run
from actlab.ledger.ledger import LEASE, Ledger, StoredRun
from actlab.ledger.run_key import Indescribable, hash_description, list_key_settings

log = logging.getLogger("actlab")
LedgerLike = Ledger | str | os.PathLike[str]


class LedgerSession:
    """Look up, claim and record the runs of a list, each by its index in the list.

    Implements :class:`actlab.execution.scheduler.RunStore`.

    Args:
        ledger: An open ledger.
        runs: The runs.
        fingerprint: Fingerprint of the data that the runs train on.
        weights: Whether to ignore recorded results without weights, unless the run has failed.

    Attributes:
        keys: One run key for each run.
        abandoned: Whether a process died while it was training one of the runs.
        restored: How many results :meth:`claim_or_restore` has read from the ledger.
        claimed: Keys of the runs that this session has claimed and not recorded yet.

    Raises:
        UsageError: A run cannot be described, so it has no key.
    """

    def __init__(self, ledger: Ledger, runs: Sequence[Run], fingerprint: str, weights: bool) -> None:
        self.ledger, self.runs, self.weights = ledger, runs, weights
        try:
            self.settings = list_key_settings(runs, fingerprint)
        except Indescribable as error:
            raise UsageError(f"a ledger cannot record these runs: {error}") from error
        self.keys = [hash_description(settings) for settings in self.settings]
        self.abandoned = ledger.abandoned(self.keys)
        self.restored = 0
        self.claimed: set[str] = set()

    def count_finished(self) -> int:
        """Return how many of the runs are in the ledger."""
        return len(self.ledger.finished(self.keys))

    def claim_or_restore(self, indices: Sequence[int]) -> dict[int, Result] | None:
        """Claim runs to train them together.

        Args:
            indices: Indices of the runs.

        Returns:
            The recorded results by index; the other runs are claimed. None if another process has claimed
            one of the runs; then nothing is claimed.
        """
        keys = {index: self.keys[index] for index in indices}
        claimed = self.ledger.claim(list(keys.values()))
        if claimed is None:
            return None
        self.claimed |= claimed
        recorded = self.ledger.results([key for key in keys.values() if key not in claimed])
        results = {
            index: recorded[key]
            for index, key in keys.items()
            if key in recorded and self._is_complete(recorded[key], self.runs[index])
        }
        self.restored += len(results)
        return results

    def _is_complete(self, result: Result, run: Run) -> bool:
        """Return whether a recorded result has what the session needs."""
        # A comparison records results without weights, and a search without parameters of activations.
        has_parts = (result.weights or not self.weights) and (result.parameters or not run.activations)
        return bool(result.failure or has_parts)

    def record(self, indices: Sequence[int], results: Sequence[Result], attempts: int) -> None:
        """Record the results of claimed runs, except those that may succeed when they are retried."""
        entries = [
            StoredRun(self.keys[index], self.settings[index], result, attempts)
            for index, result in zip(indices, results, strict=True)
            if not result.passing
        ]
        self.ledger.record(entries)
        self.claimed -= {entry.key for entry in entries}


@contextlib.contextmanager
def open_ledger(ledger: LedgerLike, weights: bool = False) -> Iterator[Ledger]:
    """Yield a ledger; open it for the duration of the block if it is a path."""
    if isinstance(ledger, Ledger):
        yield ledger
        return
    with Ledger(Path(ledger), weights=weights) as opened:
        yield opened


@contextlib.contextmanager
def open_session(
    ledger: LedgerLike | None, runs: Sequence[Run], fingerprint: str, *, weights: bool = False
) -> Iterator[LedgerSession | None]:
    """Yield a session, which renews its claims during the block and releases them at its end.

    Args:
        ledger: A ledger or its file; None to yield None.
        runs: The runs.
        fingerprint: Fingerprint of the data that the runs train on.
        weights: Whether results need weights.

    Raises:
        UsageError: The ledger cannot be opened, holds no weights although they are needed, or a run cannot be
            described.
    """
    if ledger is None:
        yield None
        return
    with open_ledger(ledger, weights) as ledger:
        if weights and not ledger.weights:
            raise UsageError(f"ledger {str(ledger.path)!r} does not store weights; open it with weights=True")
        session = LedgerSession(ledger, runs, fingerprint, weights)
        ended = threading.Event()
        # An epoch may last longer than a lease.
        renewal = threading.Thread(target=_renew, args=(ledger, ended), name="actlab-lease", daemon=True)
        renewal.start()
        try:
            yield session
        finally:
            ended.set()
            renewal.join()
            with contextlib.suppress(UsageError):  # claims expire by themselves
                ledger.release(sorted(session.claimed))


def _renew(ledger: Ledger, ended: threading.Event) -> None:
    while not ended.wait(LEASE / 6):
        try:
            ledger.renew()
        except UsageError as error:  # the next record raises the same error
            log.info("claims are not renewed: %s", error)
