"""What several must agree on of the live state of a deployment."""
