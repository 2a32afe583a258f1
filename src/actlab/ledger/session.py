"""The runs of a comparison or a search, kept in a ledger."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from actlab.errors import UsageError
from actlab.fleet.run import Result, Run
from actlab.ledger.ledger import LEASE, Entry, Ledger
from actlab.ledger.run_key import Indescribable, digest, run_settings

log = logging.getLogger("actlab")
LedgerLike = Ledger | str | os.PathLike[str]


class Bookkeeping:
    """What a ledger knows of a list of runs, by their places; as :class:`actlab.execution.scheduler.Books`.

    Args:
        ledger: The ledger.
        runs: The runs.
        fingerprint: Of the data that their rows are in.
        weights: Whether a result without weights is none.

    Attributes:
        abandoned: Whether a process has ended while it trained one of them.
        known: How many were in the ledger when they were asked for.
    """

    def __init__(self, ledger: Ledger, runs: Sequence[Run], fingerprint: str, weights: bool) -> None:
        self.ledger, self.weights = ledger, weights
        try:
            self.settings = run_settings(runs, fingerprint)
        except Indescribable as error:
            raise UsageError(f"a ledger cannot keep these runs: {error}") from error
        self.keys = [digest(settings) for settings in self.settings]
        self.abandoned = ledger.abandoned(self.keys)
        self.known = 0
        self.claimed: set[str] = set()

    def finished(self) -> int:
        """Return how many of the runs are in the ledger."""
        return len(self.ledger.finished(self.keys))

    def claim(self, places: Sequence[int]) -> dict[int, Result] | None:
        """Ask for runs; return those that are known, None if others are at it."""
        keys = {place: self.keys[place] for place in places}
        wanted = self.ledger.claim(list(keys.values()))
        if wanted is None:
            return None
        self.claimed |= wanted
        found = self.ledger.results([key for key in keys.values() if key not in wanted])
        known = {place: found[key] for place, key in keys.items() if key in found}
        if self.weights:  # a comparison, say, has recorded them without
            known = {place: result for place, result in known.items() if result.weights or result.failure}
        self.known += len(known)
        return known

    def record(self, places: Sequence[int], results: Sequence[Result], tries: int) -> None:
        """Take down what came out of runs; what may go better another time is not."""
        entries = [
            Entry(self.keys[place], self.settings[place], result, tries)
            for place, result in zip(places, results, strict=True)
            if not result.passing
        ]
        self.ledger.record(entries)
        self.claimed -= {entry.key for entry in entries}


@contextlib.contextmanager
def opened(ledger: LedgerLike, weights: bool = False) -> Iterator[Ledger]:
    """Yield a ledger, opened for as long as the block lasts if it was given as a file."""
    if isinstance(ledger, Ledger):
        yield ledger
        return
    with Ledger(Path(ledger), weights=weights) as here:
        yield here


@contextlib.contextmanager
def bookkeeping(
    ledger: LedgerLike | None, runs: Sequence[Run], fingerprint: str, *, weights: bool = False
) -> Iterator[Bookkeeping | None]:
    """Yield the books of runs; they are claimed for as long as the block lasts.

    Args:
        ledger: A ledger or its file; None for no books.
        runs: The runs.
        fingerprint: Of the data that their rows are in.
        weights: Whether weights are kept too.

    Raises:
        UsageError: The ledger cannot be opened, keeps no weights though they are wanted, or cannot tell one
            of the runs from others.
    """
    if ledger is None:
        yield None
        return
    with opened(ledger, weights) as ledger:
        if weights and not ledger.weights:
            raise UsageError(f"ledger {str(ledger.path)!r} keeps no weights, which are needed: weights=True")
        books = Bookkeeping(ledger, runs, fingerprint, weights)
        over = threading.Event()
        # An epoch may last longer than a lease.
        renewing = threading.Thread(target=_renew, args=(ledger, over), name="actlab-lease", daemon=True)
        renewing.start()
        try:
            yield books
        finally:
            over.set()
            renewing.join()
            with contextlib.suppress(UsageError):  # they end by themselves
                ledger.release(sorted(books.claimed))


def _renew(ledger: Ledger, over: threading.Event) -> None:
    while not over.wait(LEASE / 6):
        try:
            ledger.renew()
        except UsageError as error:  # whoever records next is told the same
            log.info("claims are not renewed: %s", error)
