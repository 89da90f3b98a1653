"""Brax's locomotion tasks (`brax/envs/*.py`, backend "mjx") on gpusim's physics."""
