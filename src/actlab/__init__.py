"""The activation-function laboratory for PyTorch."""
