"""Learned or cheated: pairs of rules that agree wherever an examiner may look, models of either, and what tells them apart."""
