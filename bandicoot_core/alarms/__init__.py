"""What a person has to be told: which problems there are, which of them are news or over, and in which words.

Pure: facts and moments come in, problems and messages go out. Where facts come from and how messages travel belongs to
pipeline.alarms and the stores.
"""
