"""Faults at every system call: a preloaded library that kills or fails call N, and a server that forks per trial."""
