"""The kinds of monitors: each judges rows and gives verdicts. How verdicts are kept is in `verdicts`."""
