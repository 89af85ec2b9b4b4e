"""Exact patching: grids of nodes and paths, computed only where a patch is felt."""
