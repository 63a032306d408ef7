"""Rational-quadratic splines."""
