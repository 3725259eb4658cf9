"""Identity on a connection: certificates, what is wrong with them, and who may call."""
