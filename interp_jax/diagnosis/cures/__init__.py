"""Cures, one file each; `diagnosis/treatment.py` says what such a file holds."""
