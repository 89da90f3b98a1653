"""Kernels on this machine's CPU."""
