"""Where robots touch: a file a family of shapes, and the loop over the pairs that may touch."""
