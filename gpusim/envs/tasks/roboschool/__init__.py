"""Roboschool's humanoids that run after flags (Klimov and Schulman 2017; Liang et al. 2018), with a
body of our own on gpusim's physics."""
