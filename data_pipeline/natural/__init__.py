"""Natural or not: a small model on statistics of the pixels, and how it is trained."""
