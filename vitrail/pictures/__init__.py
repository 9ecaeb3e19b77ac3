"""Pictures: decoding, resizing, the policy of a network, and what augmentation does to pixels."""
