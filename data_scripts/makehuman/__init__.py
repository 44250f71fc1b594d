"""The MakeHuman shape space, cropped and coloured to a face model."""
