"""Exact patching: grids of nodes, computed only where a patch is felt."""
