"""The systems that come with daybreak. They do not import each other."""
