"""Models at work: safe decoding, batching, cache, health, devices, digests. Knows no gRPC and no protobuf."""
