"""The laboratory behind the three lessons: how runs are kept, compared, drawn and told.

No result of the study needs this package to be understood. What is computed stands in NN_tutorial.py, cnn.py and xg.py;
here is what makes it fast (stack), safe (runs, stopping), comparable (statistics, verdicts) and visible (charts, maps,
gallery). Nothing in here knows a script's names. Each module opens with what it is for; tests/ has one file for each.
"""
