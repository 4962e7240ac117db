"""Shards to batches, model, objectives, stages and checkpoints.

After `import pretrain` the Auto classes of transformers know our model families.
"""

from pretrain.models.registration import register_when_imported

register_when_imported()
