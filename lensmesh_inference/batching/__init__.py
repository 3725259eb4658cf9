"""Many callers' items, formed into batches for the devices that compute them."""
