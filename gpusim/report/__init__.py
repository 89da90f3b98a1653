"""What a run leaves for people to look at: the training report and the 3D replay.

from gpusim.report import replay, report
"""
