"""What a model is made of: geometry of its features, phases, kinds of attention head."""
