"""Reading a finished dataset as an adversary would: every string, every byte, every picture."""
