"""From samples of corpora to the padded batches that a model reads."""
