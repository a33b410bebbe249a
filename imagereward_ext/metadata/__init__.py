"""The score inside an image file, and the prompt that lies beside it. No torch.

Begin with `records`: it says what a file holds, and puts a score into it. The WebUI's start imports some of these
modules and shall not wait for the rest, so nothing is imported here.
"""
