"""The networks and filters by which pictures and videos are compared."""
