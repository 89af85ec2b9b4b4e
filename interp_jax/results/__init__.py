"""Results on disk and for the eye: run directories, checkpoints, metric logs, tables, plots, the HTML report."""
