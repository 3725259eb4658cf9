"""Formation of batches from many callers' items, for the devices that compute them."""
