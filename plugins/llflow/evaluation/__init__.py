"""How close enhanced pictures come to their references."""
