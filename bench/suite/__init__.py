"""What the benchmarks share: one idea a file."""
