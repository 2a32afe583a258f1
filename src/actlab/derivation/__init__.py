"""From a formula in SymPy to programs that keep their digits, with a proof."""

from actlab.derivation.derived import Derived, derive

__all__ = ["Derived", "derive"]
