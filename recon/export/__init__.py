"""Files of an asset that other programs open: GLB, PLY and OBJ, films, a web page."""
