"""What is measured of utterances, and the filters that decide by it which of them are kept."""
