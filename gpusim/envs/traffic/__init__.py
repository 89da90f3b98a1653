"""Traffic: cars that follow each other on a ring, through crossings, merges and lane drops.

Read in this order: what a driver does (`following.py`, `safety.py`, `controllers.py`), one closed
road (`loop.py`, `ring.py`, `figure_eight.py`), roads that cars enter and leave (`queues.py`,
`merge.py`, `bottleneck.py`, `grid.py`), and what a replay shows (`drawing.py`).
"""
