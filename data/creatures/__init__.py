"""Procedural animated creatures: endless variety of shape for training, where real assets are few."""
