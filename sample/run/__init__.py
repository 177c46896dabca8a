"""Windows of a plan sampled into a store, over processes, resumable; reference views and upsampling."""
