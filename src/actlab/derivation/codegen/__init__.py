"""Write programs over tensors for the pieces of a formula."""
