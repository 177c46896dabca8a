"""What a run shows: the console line and trackers, sampled grids, held-out error and gates."""
