"""Measuring a service from outside: calls in a closed or an open loop, and what they say."""
