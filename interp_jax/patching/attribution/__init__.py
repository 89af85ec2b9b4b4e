"""Estimates of what patching would do, by gradients, and how far they agree with it."""
