"""`viewtime app`: the road from a video to an asset on one page in the browser."""
