"""Measurements against the peers: `python -m bench.physics`, `bench.train`, `bench.compile`."""
