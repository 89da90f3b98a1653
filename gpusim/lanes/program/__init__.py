"""The scalar program: numbers as nodes, in regions that are loops and branches."""
