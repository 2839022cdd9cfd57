"""The rules of the house: structure, docs, packaging."""
