"""Envoy beside each service: mutual TLS with SPIFFE identities, balancing, retries, ejection of sick replicas.

One source for `lensmesh up --sidecars` and for the files below deploy/kubernetes/.
"""
