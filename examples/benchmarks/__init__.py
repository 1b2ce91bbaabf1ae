"""Programs that print the measured tables of README.md in this folder."""
