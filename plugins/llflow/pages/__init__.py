"""Pages to look at pictures: the slider between two, and a report of many."""

from pathlib import Path

SLIDER = Path(__file__).parent / "slider"  # slider.css and slider.js
