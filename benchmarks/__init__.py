"""Figures: the adapter beside kfp.Client and plain HTTP, in one run on one machine."""
