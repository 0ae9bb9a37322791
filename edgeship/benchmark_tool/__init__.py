"""TFLite's benchmark_model: what it prints and writes, read; the pieces around it."""
