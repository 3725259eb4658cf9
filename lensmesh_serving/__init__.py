"""What the model services share over gRPC: their app, settings, calls, streams, and what they tell of their models."""
