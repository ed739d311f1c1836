"""How runs are done: the command line, processes or a cluster, what is kept under which key, progress, Ctrl-C."""
