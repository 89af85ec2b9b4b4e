"""Activations of a model over data: harvested at several sites in one pass, and shuffled into a stream."""
