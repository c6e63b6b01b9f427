"""Stored runs in the formats of other programs: one module per format, loaded when it is asked for."""
