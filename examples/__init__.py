"""Programs to copy from, and the speech and models that they run on."""
