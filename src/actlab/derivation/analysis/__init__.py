"""Analyse a formula: pieces, kinks, limits and reference values."""
