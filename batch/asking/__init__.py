"""The server: how it is asked, how often, and how many requests at once."""
