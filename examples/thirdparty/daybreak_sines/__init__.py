"""The frequency of short noisy recordings: what the system offers, as strings, so that listing it imports nothing."""

from daybreak.lab.system import System

system = System(
    name="sines",
    line="a second of a noisy swing in, its frequency out",
    ingest="daybreak_sines.data:ingest",
    embedded="daybreak_sines.data:embedded",
    recipes={"frequency": "daybreak_sines.recipe:Frequency"},
    models={"frequency": "daybreak_sines.model:Sines"},
)
