"""The executor: pool agents that own slots, and the warm workers that run user code."""
