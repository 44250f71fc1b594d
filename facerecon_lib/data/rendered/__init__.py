"""Rendered faces with known truth."""
