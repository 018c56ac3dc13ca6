"""Each asset's work as one function: read from the stores, compute with the sciences, write back.

This is where stores meet engagement, model and policy, so that the orchestration and the service call the same code.
No mathematics and no SQL belong here.
"""
