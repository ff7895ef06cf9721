"""The web console (not built yet; its package holds the place in the import contracts)."""
