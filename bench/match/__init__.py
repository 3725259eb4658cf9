"""Parts of `bench.matching`: what is matched, how it is altered, and the systems that match it."""
