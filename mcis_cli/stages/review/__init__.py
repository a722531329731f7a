"""The stage `review`: which pseudo masks are most likely wrong, without ground truth."""
