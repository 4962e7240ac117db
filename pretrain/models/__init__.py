"""The model families, one file each, and the blocks that they share."""
