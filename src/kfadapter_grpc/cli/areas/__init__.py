"""The commands with their options, a module for each area; what they do is in `commands`."""
