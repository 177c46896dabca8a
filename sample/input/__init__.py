"""From a video to the cells of a grid: reading, matting, cropping."""
