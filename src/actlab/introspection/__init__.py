"""Describe what values and the user's code consist of."""
