"""Encoders of many families, each as a module that returns several taps at once."""
