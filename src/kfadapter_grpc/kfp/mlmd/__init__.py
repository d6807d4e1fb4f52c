"""Inputs, outputs, artifacts and metrics of runs in ML Metadata, where KFP 2.5 to 2.17 keep them."""
