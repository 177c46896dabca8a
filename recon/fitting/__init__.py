"""What every fit shares: targets, hull, schedule, loop, scores."""
