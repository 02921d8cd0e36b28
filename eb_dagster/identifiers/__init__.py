"""What may be asked for: emails, phones and profiles, and how cells and columns hold them."""
