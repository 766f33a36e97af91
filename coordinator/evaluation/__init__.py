"""Evaluation: recorded incidents from elsewhere, run through the real path and scored."""
