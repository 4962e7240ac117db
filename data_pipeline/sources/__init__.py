"""Where candidates come from: one small reader for each kind of source."""
