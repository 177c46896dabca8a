"""Text and images to 4D by score distillation: 4D-fy and Dream-in-4D as losses, guidance, fields and schedules."""
