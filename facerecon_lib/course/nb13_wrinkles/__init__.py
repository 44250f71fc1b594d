"""Notebook 13."""
