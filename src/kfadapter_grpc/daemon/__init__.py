"""What every process of the program that stays has in common: its log, its signals, addresses, metrics over HTTP.

Needs structlog and nothing else beside the base install.
"""
