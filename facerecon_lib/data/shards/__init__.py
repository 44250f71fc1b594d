"""Shards of photos, streamed."""
