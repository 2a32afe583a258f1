"""Parse the text of a formula."""
