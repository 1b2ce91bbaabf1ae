"""Hydra configs, carried by the wheel: ``hydra.searchpath: [pkg://lightning_mi.configs]``."""
