"""What is counted and measured: a catalog as data, and instruments made from it, of the adapter (`server`)."""
