"""Studies whose results the notebooks show, and the pictures of README.md."""
