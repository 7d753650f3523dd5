"""The commands: thin, each calls one room."""
