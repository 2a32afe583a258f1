"""Limits for the number of modules that a comparison enters and for repeated work."""

import sys
from collections import Counter

import actlab
from actlab.data import load_data


class Followed:
    """Follow the calls of actlab in a comparison of two activations on digits, up to the first epoch.

    Attributes:
        calls: The calls by module and function.
        modules: The modules entered.
        changes: How often two consecutive calls are in different modules.
    """

    def __init__(self):
        self.calls, self.modules, self.changes = Counter(), set(), 0
        self._last, self._is_training = "", False
        actlab.compare(["elu", "sigmoid"], "digits", epochs=1, jobs=1, tune=None)  # trigger late imports
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            actlab.compare(["relu", "tanh"], "digits", epochs=1, jobs=1, tune=None)
        finally:
            sys.setprofile(before)

    def _profile(self, frame, event, _):
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
        is_written = not name.startswith("__create_fn__")  # dataclasses write the others
        if event != "call" or not module.startswith("actlab.") or not is_written:
            return
        self.calls[module, name] += 1
        self._is_training |= (module, name) == ("actlab.fleet.loop", "Loop.train_epoch")
        if not self._is_training:
            self.modules.add(module)
            self.changes += module != self._last
            self._last = module


def test_compare_enters_few_modules_before_its_first_epoch():
    load_data("digits")
    followed = Followed()
    assert len(followed.modules) <= 52
    assert followed.changes <= 265
    assert followed.calls["actlab.spec.text", "split_spec"] == 2
    assert followed.calls["actlab.models.networks", "NeuralNet.__init__"] == 6
    assert followed.calls["actlab.comparison.config", "ComparisonConfig.__post_init__"] == 1
    assert followed.calls["actlab.comparison.plan", "ComparisonPlan.__init__"] == 1
    assert followed.calls["actlab.fleet.loop", "Loop.train_epoch"] > 0
