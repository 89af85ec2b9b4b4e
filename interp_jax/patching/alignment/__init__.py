"""Distributed alignment search: subspaces that carry a variable, with their controls."""
