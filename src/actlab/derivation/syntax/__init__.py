"""Read the text of a formula."""
