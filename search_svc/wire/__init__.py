"""Between the contract's messages and the domain: everything a caller sends is checked here."""
