"""Estimates become logged numbers, checkpoint state and figures."""
