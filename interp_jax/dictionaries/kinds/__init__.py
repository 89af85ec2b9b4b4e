"""Kinds of dictionary, one file each: `init`, `encode`, `decode`, `loss`, by the names of `config.KINDS`."""
