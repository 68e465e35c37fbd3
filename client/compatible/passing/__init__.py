"""The same paths in front of an engine that speaks these APIs itself: what is asked and answered
goes through as it is, but for the model that is meant, errors, and the counts of tokens."""
