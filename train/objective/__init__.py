"""What a step minimises: the denoising loss, its critic, own drafts, and which cells are known."""
