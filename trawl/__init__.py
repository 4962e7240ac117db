"""The ground that the three packages stand on: command line, recipes, storage, events."""

__version__ = "0.1.0"
