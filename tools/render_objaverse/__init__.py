"""Rendering of animated assets into grids: glTF reader, GL engine, Cycles workers and their driver."""
