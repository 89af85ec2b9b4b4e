"""What a dictionary is worth: how well it reconstructs, how few features it takes, and whether they are the true ones."""
