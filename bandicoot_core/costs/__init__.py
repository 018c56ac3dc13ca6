"""What running Bandicoot costs: prices, what was spent since the month began, and what the month will come to.

Pure: durations and sizes come in, a table goes out. Where they are read belongs to pipeline and to Dagster.
"""
