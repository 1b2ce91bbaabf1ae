"""How well the scores rank the checkpoints: statistics, tables and figures."""
