"""The router: joins encoders, captioners and search into whole jobs. It holds no model and no data."""
