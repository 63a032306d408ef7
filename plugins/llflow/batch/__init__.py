"""Millions of pictures, each of which ends exactly once, whatever happens meanwhile."""
