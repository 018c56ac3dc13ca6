"""Where caregiver events come from: a Pub/Sub subscription, and files in a folder or bucket.

Here is only the transport: messages with their places, as they arrived. What a message means belongs to engagement.
"""
