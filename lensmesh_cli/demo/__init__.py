"""`lensmesh demo`: the whole mesh on drawn scenes, and a comparison of its answers with the truth."""
