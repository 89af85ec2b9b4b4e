"""Dictionaries: features pulled apart that a model packs together (Bricken et al. 2023; Cunningham et al. 2023)."""
