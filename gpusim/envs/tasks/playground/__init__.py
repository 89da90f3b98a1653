"""MuJoCo Playground's robots that follow commands, on gpusim's physics.

The scenes are files of the installed `playground` package; nothing of it is imported.
"""
