"""The vendor's interface: its JSON, the one socket, whether money may be gone, and the pace."""
