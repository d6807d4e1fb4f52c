"""Makes messages of what the repositories answer: a module for each area, and `values` for what they share."""
