"""Metrics: the catalog as data."""
