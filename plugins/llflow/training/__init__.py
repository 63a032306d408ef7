"""Training: the recipe, what it minimises, and one readable loop."""
