"""What can be read off an activation: linear probes, fitted for many concepts at once."""
