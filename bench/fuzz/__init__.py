"""Damaged and hostile images through a real mesh: every item one answer, no process lost, nobody else slowed down."""
