"""What a guidance's prediction asks of a render, as pure functions of (latents, noise, t, predictions)."""
