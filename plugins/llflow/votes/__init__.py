"""Which of two pictures is the better one: asked blind, on a page, and counted."""
