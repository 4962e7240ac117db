"""Fine-tuning and evaluation, one file per downstream task."""
