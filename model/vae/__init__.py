"""The Stable Diffusion VAE: image encoder, image decoder and SVD's temporal decoder; drop-ins from diffusers."""
