"""Importers of face models: what they share."""
