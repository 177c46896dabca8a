"""Which assets may train a model, and why the others may not."""
