"""Networks: layers of several seeds, encoders of observations, heads and curiosity."""
