"""Envoy beside each service: mutual TLS with SPIFFE identities, balancing, retries, ejection of sick replicas.

`lensmesh up --sidecars` and the files below deploy/kubernetes/ have this one source.
"""
