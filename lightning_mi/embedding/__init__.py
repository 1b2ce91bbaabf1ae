"""A model and segments become one vector a segment; nothing of it stays behind in the model."""
