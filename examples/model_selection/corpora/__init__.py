"""Speech that models are trained, scored and probed on."""
