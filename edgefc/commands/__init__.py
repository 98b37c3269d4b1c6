"""One module per subcommand; edgefc/cli.py finds them."""
