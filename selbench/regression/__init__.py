"""The regression check: is a model still as robust as the one in a baseline file?"""
