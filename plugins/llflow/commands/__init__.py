"""One file a command; modules that need PyTorch are imported by what needs them, so that help,
completion and wrong usage come at once."""
