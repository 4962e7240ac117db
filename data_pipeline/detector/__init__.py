"""Region detectors: Faster R-CNN, its training, its weights and its use."""
