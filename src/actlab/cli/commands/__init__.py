"""One module for each command: its summary, its examples, its options, and the function that runs it."""
