"""The encoder, the double-head U-Net, and the face-recognition networks."""
