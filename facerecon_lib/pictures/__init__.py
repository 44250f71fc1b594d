"""Pictures of faces: the painter, sheets, offset maps."""
