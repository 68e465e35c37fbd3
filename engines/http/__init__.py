"""HTTP to any of the engines: URLs, keys, TLS, connections, answers."""
