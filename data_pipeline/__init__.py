"""From pages to pairs, regions and shards, for data engineers."""
