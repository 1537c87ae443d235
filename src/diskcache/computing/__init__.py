"""Get or compute: terms, ways to wait, and the steps in between."""
