"""Every activation as a function, under torch.nn.functional's names; the stub file lists them for editors."""

from actlab.functions import DEFINITIONS

globals().update(DEFINITIONS)
__all__ = sorted(DEFINITIONS)
