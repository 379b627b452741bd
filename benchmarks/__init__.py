"""Benchmarks: each compares, in one run, with what a user would use instead; ratios and medians, never a verdict."""
