"""The parts of the replay page, which replay.py puts together: HTML, CSS, JavaScript."""
