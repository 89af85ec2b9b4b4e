"""Which activations cause the behaviour: exact patching, path patching, attribution, subspaces, and their statistics."""
