"""Standing: from the first good model on, new items or a drift in what is served queue a retraining.

What a service is asked is kept as numbers of its types, never as contents. A challenger takes production only where
the interval says that it is better. It knows types, the lake, the queue and the registry; it knows no system.
"""
