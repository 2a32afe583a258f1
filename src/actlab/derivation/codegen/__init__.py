"""From the pieces of a formula to programs over tensors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["kernels"])
