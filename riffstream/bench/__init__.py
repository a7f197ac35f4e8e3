"""Benchmarks: each prints tables with the machine, the versions and the commit."""
