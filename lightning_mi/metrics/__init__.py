"""torchmetrics metrics: they hold rows, gather them from all processes and call the estimator."""
