"""Files that gateways on several machines share: in a directory, or in S3.

It knows keys and bytes, nothing of what they are for.
"""
