"""Parts that every lensmesh service shares: life cycle, settings, errors, interceptors, telemetry and channels."""
