"""A training run: the loop, its checkpoints, sinks, clock and summary."""
