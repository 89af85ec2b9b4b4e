"""Path patching: what a part of a model does through what another part reads of it."""
