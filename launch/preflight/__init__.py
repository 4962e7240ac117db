"""Preflight: one short job on the machines of a place, which says which of them are unfit."""
