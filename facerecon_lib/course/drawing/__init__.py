"""What the notebooks' figures share."""
