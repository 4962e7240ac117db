"""The corpus on disk: manifest, shards, index, regions. The only room that `pretrain` may enter."""
