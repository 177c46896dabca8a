"""Networks, conditioners, VAE and denoisers; knows nothing of training, config files or data sets."""
