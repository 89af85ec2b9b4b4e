"""Engines that start the worker: they plan, submit, watch and collect, and leave scheduling to what a cluster already has."""
