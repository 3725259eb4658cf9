"""What the two model services share: safe decoding, batching, devices, digests. Knows no gRPC and no protobuf."""
