"""From a stranger's bytes to what a model takes: checked, decoded, upright, resized, in a bounded pool."""
