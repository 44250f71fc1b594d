"""The command `facerecon`."""
