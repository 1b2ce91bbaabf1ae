"""Programs to copy from, and the speech and the models that they use."""
