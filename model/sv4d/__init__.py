"""SVD, SV3D, SV4D and SV4D 2.0: one UNet by configuration, compatible with the published checkpoints."""
