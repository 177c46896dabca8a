"""What the published networks are conditioned on: image embedding, latents, cameras and numbers."""
