"""Early stopping of one run."""

from __future__ import annotations

import math

from actlab.fleet.run import EarlyStopping, Epoch


class EarlyStopper:
    """Early stopping of one run, by the rule of :class:`skorch.callbacks.EarlyStopping`.

    Args:
        rule: What is watched.

    Attributes:
        improved: Whether the last epoch was the best so far.
    """

    def __init__(self, rule: EarlyStopping) -> None:
        self.rule = rule
        self.improved = False
        self._misses = 0
        self._bar = math.inf if rule.lower_is_better else -math.inf

    def stops(self, row: Epoch) -> bool:
        """Return whether training stops after an epoch."""
        rule, score = self.rule, row[self.rule.monitor]
        self.improved = score < self._bar if rule.lower_is_better else score > self._bar
        if self.improved:
            self._misses = 0
            margin = rule.threshold * score if rule.threshold_mode == "rel" else rule.threshold
            self._bar = score - margin if rule.lower_is_better else score + margin
        else:
            self._misses += 1
        return self._misses == rule.patience  # not >=: below 0 nothing stops, and 0 does at once
