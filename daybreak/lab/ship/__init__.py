"""Ship: what a registered model goes out as, derived from its types and its programs."""
