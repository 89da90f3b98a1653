"""Brax's locomotion tasks (`brax/envs/*.py`, backend "mjx") on gpusim's physics.

The models in `models/` are ours, and compile to the numbers of Brax's: a test compares them.
"""
