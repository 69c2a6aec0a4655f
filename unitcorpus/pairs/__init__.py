"""Spoken pairs: which are kept, and how much a sequence repeats itself (`pairs.auto_bleu`)."""
