"""Figures of Millstream, in the rows that the other systems' scripts print too."""
