"""The regression check: is today's model as robust as the one that a baseline file records?"""
