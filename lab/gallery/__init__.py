"""The pages: what an experiment reports, kept as data, and its two views, README.md and index.html."""
