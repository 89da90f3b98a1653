"""Learners that run wholly on the device. They know environments only through the Env contract."""
