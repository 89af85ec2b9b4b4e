"""What models are trained and tested on: synthetic features, sequences, text."""
