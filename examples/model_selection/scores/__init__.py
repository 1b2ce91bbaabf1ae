"""Scores of a checkpoint that need no labels, and the labelled bound."""
