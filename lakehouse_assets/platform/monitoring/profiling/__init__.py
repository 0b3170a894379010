"""Statistics of the columns of a table, by windows and slices, in one pass. It knows no baseline and no table of the platform."""
