"""Checkpoints: saving and resuming a run, publishing a stage, pulling and verifying a release."""
