"""Keyword-conditioned music: what the system offers, as strings."""

from daybreak.lab.system import System

system = System(
    name="music",
    line="keywords in, MIDI clips out",
    ingest="daybreak.systems.music.data:ingest",
    embedded="daybreak.systems.music.data:embedded",
    recipes={
        "compose": "daybreak.systems.music.recipe:Compose",
        "tune": "daybreak.systems.music.tune:Tune",
    },
    models={"music": "daybreak.systems.music.model:Music"},
    commands={
        "evaluate": "daybreak.systems.music.evaluate:evaluate",
        "listen": "daybreak.systems.music.listen:listen",
        "notate": "daybreak.systems.music.notate:notate",
    },
)
