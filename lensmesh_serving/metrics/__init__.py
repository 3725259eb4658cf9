"""Metrics that model services tell of their engines, caches and decoding."""
