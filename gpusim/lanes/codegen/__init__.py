"""From the scalar program to LLVM IR."""
