"""Who may call: tokens, names in client certificates, the server's certificate, and how changed files are taken up."""
