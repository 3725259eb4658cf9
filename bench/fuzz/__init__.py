"""Damaged and hostile images, sent through a real mesh.

Every item must get one answer, no process may be lost, and no other caller may be slowed down.
"""
