"""Dagster's pools: families of partitions of which the run queue lets one run through at a time.

Their limit (1) and granularity (`run`: a run in one process has all its steps) stand in the instance's dagster.yaml.
What holds without a queue, partition by partition, is the lock in steps.
"""

SOURCE = "source"
STATES = "states"
CALL_LIST = "call_list"
TRAINING = "training"
EVALUATION = "evaluation"
ANALYSIS = "analysis"
