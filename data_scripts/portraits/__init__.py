"""What a folder of portraits teaches a face model: its skin, its mean shape and its spread."""
