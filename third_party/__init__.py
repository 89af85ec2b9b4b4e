"""Interchange with other projects, and comparisons against them; the library itself never imports this package."""
