"""Tasks of our own that a policy sees in pictures."""
