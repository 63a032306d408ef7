"""Film: one frame after the other, with what belongs to a whole frame steady over time."""
