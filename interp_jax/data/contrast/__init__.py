"""Contrast pairs: prompts that differ where the cause is sought, position by position."""
