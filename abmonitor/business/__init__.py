"""The business case: what a better model is worth in money, with the ranges that one knows it in."""
