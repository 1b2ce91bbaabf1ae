"""One validation epoch on all processes: batches in, estimates out."""
