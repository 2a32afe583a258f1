"""Early stopping of one run."""

from __future__ import annotations

import math

from actlab.fleet.run import EarlyStopping, Epoch


class EarlyStopper:
    """Decides when a run stops, by the rule of :class:`skorch.callbacks.EarlyStopping`.

    Args:
        rule: The column of the history to monitor, and when to stop.

    Attributes:
        improved: Whether the last epoch was the best so far.
    """

    def __init__(self, rule: EarlyStopping) -> None:
        self.rule = rule
        self.improved = False
        self._misses = 0
        self._threshold = math.inf if rule.lower_is_better else -math.inf

    def record(self, epoch: Epoch) -> bool:
        """Record the score of an epoch; return whether training stops."""
        rule, score = self.rule, epoch[self.rule.monitor]
        self.improved = score < self._threshold if rule.lower_is_better else score > self._threshold
        if self.improved:
            self._misses = 0
            margin = rule.threshold * score if rule.threshold_mode == "rel" else rule.threshold
            self._threshold = score - margin if rule.lower_is_better else score + margin
        else:
            self._misses += 1
        return self._misses == rule.patience  # as skorch: a negative patience never stops, 0 stops at once
