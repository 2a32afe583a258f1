"""Resolve what users pass as an activation: text, a module, a class, a function or a definition."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
