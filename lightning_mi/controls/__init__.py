"""What the bound is compared with: the input baseline and the null control, measured once a run."""
