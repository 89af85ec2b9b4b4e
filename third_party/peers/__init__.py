"""Benchmarks against other projects, one module each: `./launch/peers NAME [--quick]`.

A benchmark gives both sides the same weights and the same work, checks that their numbers agree before it times
anything, alternates between them on the same machine, prints a table, and ends with a line of JSON with every figure.
"""
