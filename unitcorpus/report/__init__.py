"""The report: one HTML page that shows a corpus, with samples to look at and listen to."""
