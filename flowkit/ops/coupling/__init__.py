"""Affine coupling."""
