"""Gymnasium's classic control tasks (`gymnasium/envs/classic_control`), each with its own physics
of a few lines. They take microseconds to step and seconds to learn: worlds to try learners on.
"""
