"""What a run keeps: checkpoints, averages of the weights, and the parts that each process holds."""
