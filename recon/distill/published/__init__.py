"""The published guidances' weight files, read strictly into diffusers' classes."""
