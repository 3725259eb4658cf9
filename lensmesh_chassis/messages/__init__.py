"""Messages of calls: how many bytes may be held, how large ones are parsed and packed, what ends unread answers."""
