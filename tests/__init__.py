"""The tests; a package, because some that are published install one of this name."""
