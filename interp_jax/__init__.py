"""An interpretability laboratory in pure functional JAX: grow small models, look inside, pull apart what overlaps."""
