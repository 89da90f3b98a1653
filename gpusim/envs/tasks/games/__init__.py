"""Robots against each other: tasks of our own, for self-play."""
