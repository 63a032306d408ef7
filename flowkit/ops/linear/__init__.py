"""Linear maps of the channels."""
