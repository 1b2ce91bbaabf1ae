"""Models and batches of other people's libraries, and the bound of each computed by hand beside the callback's."""
