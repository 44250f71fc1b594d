"""One photo to its face and its folder of results."""
