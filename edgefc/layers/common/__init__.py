"""Code that several families of layers use. Imports no family."""
