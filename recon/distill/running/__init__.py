"""A run of score distillation: the schedule, the loop, what it writes, and what it needs."""
