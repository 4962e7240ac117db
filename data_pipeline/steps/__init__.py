"""The LAIT steps, one a file, in the order in which data flows (ImageBERT, section 3)."""
