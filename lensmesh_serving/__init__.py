"""Parts that model services share over gRPC: app, settings, calls, streams, and what they tell of their models."""
