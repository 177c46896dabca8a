"""Measuring 4D: image metrics, Fréchet video distances along four paths of a grid, `viewtime evaluate`."""
