"""Everything that holds a robot back: rows, the laws that answer them, and the solver."""
