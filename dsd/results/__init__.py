"""What a run leaves behind: its identity, its folder, where it came from, its loggers and its final table.

Nothing here knows about training; only `tracking` imports torch or Lightning.
"""
