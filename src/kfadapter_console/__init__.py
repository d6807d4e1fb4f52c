"""The web page in front of an adapter: an ordinary client of its gRPC API."""
