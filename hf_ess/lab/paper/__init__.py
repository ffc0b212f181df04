"""The results of the paper as experiments that anyone can run: trainings, rows, verdict, figure.

Source: Parnichkun et al., ICML 2025.
"""
