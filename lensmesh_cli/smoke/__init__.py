"""`lensmesh smoke`: what a running mesh promises, tried once from outside, with nothing left behind."""
