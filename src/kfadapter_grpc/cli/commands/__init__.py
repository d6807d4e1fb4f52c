"""What the commands do. Each module is loaded when one of its commands runs."""
