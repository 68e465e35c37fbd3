"""Files of models: what they say of themselves, and what they take in memory. Nothing is loaded."""
