"""What networks learn from: rendered faces and shards of photos."""
