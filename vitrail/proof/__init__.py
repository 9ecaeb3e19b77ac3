"""Measured equality: an export is proven against its source before it is written, and again where it is used."""
