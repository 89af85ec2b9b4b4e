"""Erasing what a probe reads: maps of activations after which it cannot be read any more, as edits of the forward pass."""
