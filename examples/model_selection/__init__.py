"""Does the highest bound pick the best model? A study to reproduce, not an example to copy; see README.md."""
