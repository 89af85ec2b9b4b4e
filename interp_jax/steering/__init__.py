"""Steering: directions, edits of activations and of weights that change what a model does, and what else they change."""
