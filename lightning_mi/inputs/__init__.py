"""A validation batch becomes pairs of segments; no model is called."""
