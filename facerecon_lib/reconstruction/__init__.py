"""One photo to its face and its folder of results."""

PHOTO_LIGHTS = ("photo", "encoder", "grey", "free")
"""`augmented.branch.LIGHTS` without "known": no photo comes with its true light."""

TEXTURES = ("albedo", "photo", "lit")
"""What colours mesh.glb: `result_files.write_photo`."""
