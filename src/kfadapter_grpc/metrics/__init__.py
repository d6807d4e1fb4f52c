"""Metrics: the catalog as data, and the instruments of calls, created from it."""
