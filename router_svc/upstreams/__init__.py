"""The services behind the router: where they are, how they are, and how work is given to them."""
