"""The laboratory behind the three lessons. What is computed stands in NN_tutorial.py, cnn.py and xg.py; in here is

    study      what a study is made of: Experiment, Result, Runs; beside it files and errors, which all rooms use
    run/       the command line, and how runs are done, kept and shown under way: processes, clusters, Ctrl-C
    tell/      what numbers say: intervals, tests, words
    data/      what is read: places, photos, and what is wrong with them
    nets/      what trains and records networks: stacks of seeds, backbones, references without gradient descent
    draw/      figures: curves, bars, maps
    gallery/   the pages: reports, README.md and index.html

A room knows those above it and no script. tests/ has a file for nearly each module, of the same name.
"""
