"""Image preparation for models: a stranger's bytes are checked, decoded, turned upright and resized.

The work runs in a bounded pool.
"""
