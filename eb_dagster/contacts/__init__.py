"""Contacts: the one table of columns, and how any shape of a contact comes into it."""
