"""What is compared, and how: pixels, outlines, Fréchet distances, the order of a grid's cells."""
