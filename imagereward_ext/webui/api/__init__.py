"""`/imagereward/v1/…`: what programs call."""
