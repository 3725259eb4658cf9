"""Translation between the contract's messages and the domain. Everything a caller sends is checked here."""
