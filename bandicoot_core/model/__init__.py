"""The model of a training run: counts in; clusters, chances, Whittle indices and a checked, named version out.

Everything here works on small tables (distinct tuples, clusters) or as table expressions in the engine; nothing here
runs over caregivers in Python. How weeks become counts belongs to engagement, who is called to policy, and whether
the model predicts well to evaluation.
"""
