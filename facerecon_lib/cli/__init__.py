"""The command `facerecon`."""

from .app import main as main
