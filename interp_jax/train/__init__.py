"""Growing models: objectives, optimizers, runs, and populations of runs."""
