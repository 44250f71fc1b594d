"""A photo in: reading, face detection, landmarks, the aligned crop."""
