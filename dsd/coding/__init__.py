"""Streams of small numbers and bitmaps as few bytes as can be, and the file they go into. Knows no model, no torch."""
