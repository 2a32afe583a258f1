"""From a line of text to an activation: a formula is read, differentiated and made."""
