"""Authentication and authorization: tokens, client certificates, the server's certificate, and re-read files."""
