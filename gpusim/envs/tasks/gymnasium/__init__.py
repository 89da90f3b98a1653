"""Gymnasium's MuJoCo tasks, version 5 (`gymnasium/envs/mujoco/*_v5.py`), on gpusim's physics.

The models are the files of the installed gymnasium package; nothing of it is imported.
"""
