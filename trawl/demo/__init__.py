"""The seeded world: scenes, texts about them, and a web that shows them, all with known truth."""
