"""What makes and checks the notebooks."""
