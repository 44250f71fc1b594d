"""Figures of the notebooks: one module a topic, everything that would make their cells long."""
