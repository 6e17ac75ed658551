"""What the octets say: protocols recognised by content, and the facts read of each."""
