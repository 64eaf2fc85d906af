"""One file is one family of methods and one chapter."""
