"""The tasks that come with gpusim, by suite."""
