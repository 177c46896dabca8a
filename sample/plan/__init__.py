"""Which cells are sampled together, in which order, from which cameras."""
