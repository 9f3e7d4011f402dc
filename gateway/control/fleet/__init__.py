"""The attached workers: their links, what they reported, and how far they are with a change."""
