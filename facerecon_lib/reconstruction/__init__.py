"""One photo to its face and its folder of results."""

PHOTO_LIGHTS = ("photo", "encoder", "grey", "free")
"""Of `augmented.branch.LIGHTS` those that a photo can have: of no photo the true light is known."""
