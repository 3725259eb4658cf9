"""Matches as people and programs see them: lines, a table, and cards of a page."""
