"""Find what holds of a formula: pieces, kinks, limits, error bounds."""
