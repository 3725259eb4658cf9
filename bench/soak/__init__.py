"""A check whether a mesh at work grows.

Memory, threads, tasks and descriptors of its processes are sampled for minutes.
"""
