"""Choose accurate expressions and write them as PyTorch programs."""
