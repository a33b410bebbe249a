"""Rankings in, a new scorer out.

The k images of one prompt are encoded once in a step and compared in all their pairs. Encoding each pair by
itself would take two encodings for each of the k(k-1)/2 pairs, k(k-1) in all; here it takes k. With the nine
images that ImageRewardDB has at most for a prompt, that is 9 instead of 72.
"""
