"""The vocabulary of Millstream: events, frames, the fold, ports and their adapters."""
