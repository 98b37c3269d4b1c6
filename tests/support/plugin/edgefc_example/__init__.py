"""A package with a layer, its operator and a transport for edgefc."""
