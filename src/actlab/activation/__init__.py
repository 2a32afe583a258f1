"""What an activation is: formulas and facts in, a differentiable function and a module out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
