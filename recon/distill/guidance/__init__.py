"""Any denoiser behind one call: renders, cameras, prompt -> the noise it predicts."""
