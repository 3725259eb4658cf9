"""`lensmesh demo`: the whole mesh on drawn scenes, and what it finds compared with the truth."""
