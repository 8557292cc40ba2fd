"""The results page: how tables are made of lines, and one module a subject."""
