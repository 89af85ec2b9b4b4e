"""Diagnosers, one file each; `diagnosis/examination.py` says what such a file holds."""
