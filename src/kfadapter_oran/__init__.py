"""For the training manager: completion notices and the routes of the Flask adapter."""
