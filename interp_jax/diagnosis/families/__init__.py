"""The families that come with the library, one file each; `diagnosis/family.py` says what such a file holds."""
