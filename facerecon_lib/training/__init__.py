"""The training loop of both stages."""
