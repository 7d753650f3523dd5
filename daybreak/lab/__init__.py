"""The loop: lake, runs, night, watch, morning, registry. It knows no system by name."""
