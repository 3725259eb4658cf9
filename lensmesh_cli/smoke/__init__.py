"""`lensmesh smoke`: one try of everything that a running mesh promises, from outside, with nothing left behind."""
