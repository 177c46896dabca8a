"""Assets and grids in the formats of other programs: Blender's, splat viewers', COLMAP's."""
