"""Benchmarks: the adapter compared with kfp.Client and plain HTTP, in one run on one machine."""
