"""Pictures made from integers by encoders of our own: the same bytes under every version of every library."""
