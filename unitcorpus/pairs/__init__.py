"""Pairs of utterances to prefer one over the other: how repetitive they are, and which are kept."""
