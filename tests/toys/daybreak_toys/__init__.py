"""A system for tests, installed the way a third party's is."""

from daybreak.lab.system import System

system = System(
    name="toy",
    line="small recipes for tests",
    recipes={"mlp": "daybreak_toys.mlp:Mlp", "count": "daybreak_toys.count:Count"},
    models={"mlp": "daybreak_toys.mlp:MlpModel", "server": "daybreak_toys.serving:Server"},
)
