"""The subcommands of ``xsock``; each module has add_arguments() and run()."""
