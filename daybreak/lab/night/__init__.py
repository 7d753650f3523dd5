"""The night: tonight's queue, sweeps, and the loop that works through them."""
