"""Losses, their weights, the objective, and analysis by synthesis."""
