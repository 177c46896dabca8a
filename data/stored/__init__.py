"""Training shards: what they hold, how they are made, and grids out of them."""
