"""What a probe may be asked for: variables of tokens, read off source code, off sequences, or given by a person."""
