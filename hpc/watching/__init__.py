"""--watch: a deployment's live state, from its client service, and before that is up from its
record and its scheduler; shown on a terminal, as lines, or as events for programs."""
