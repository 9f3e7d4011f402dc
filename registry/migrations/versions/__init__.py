"""One module per schema revision; each names the revision before it. A published revision is never edited: add the next."""
