"""The augmented branch: offset maps, how they are sampled, Eq. 8 to 12."""
