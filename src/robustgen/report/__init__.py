"""The report: one self-contained HTML page of every table, figure and claim of a scale, and how each was made."""
