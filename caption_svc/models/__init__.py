"""Caption models behind one protocol: BLIP by transformers, and a mock without torch."""
