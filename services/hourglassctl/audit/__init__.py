"""`hourglass audit`: count the raw readings again, and compare everything made from them."""
