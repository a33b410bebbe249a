"""The parsed flags: the extensions have been asked for theirs (preload.py) before this is imported."""

from modules import extensions, script_loading
from modules.cmd_args import parser
from modules.paths_internal import script_path  # noqa: F401

_known, _ = parser.parse_known_args()
for _folder in extensions.folders(_known):
    script_loading.preload(_folder, parser)

cmd_opts = parser.parse_args()
