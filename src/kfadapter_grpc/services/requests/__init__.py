"""Reads requests: a module for each area, and what they share: `checks`, `pages`, `refs`."""
