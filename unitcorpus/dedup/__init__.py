"""Duplicate texts: exact ones up to case and punctuation, and near ones by MinHash."""
