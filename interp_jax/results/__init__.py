"""What is kept and shown: run directories, checkpoints, metric logs, tables, plots, reports."""
