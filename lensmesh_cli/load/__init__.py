"""Measurement of a service from outside: calls in a closed or an open loop, and their figures."""
