"""Programs that print the measured tables of the README."""
