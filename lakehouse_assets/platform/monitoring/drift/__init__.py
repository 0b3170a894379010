"""How windows differ from a baseline and from each other, and which differences chance explains. The kinds of monitors are in `kinds`."""
