"""Every activation as a module, under torch.nn's names; the stub file lists them for editors."""

from actlab.functions import DEFINITIONS

MODULES = {d.module_class.__name__: d.module_class for d in DEFINITIONS.values() if d.module_class}
globals().update(MODULES)
__all__ = sorted(MODULES)
