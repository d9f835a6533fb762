"""Looks checkpoints up, in a process of its own: the hub's libraries read the environment once.

Prints JSON: for each argument, ``model`` or ``model@revision``, what was said (null: found); then
whether the process is offline now.
"""

import json
import os
import sys

from huggingface_hub import constants

from saccade.server.checkpoint.lookup import find_checkpoint

said = {}
for argument in sys.argv[1:]:
    model, _, revision = argument.partition("@")
    try:
        find_checkpoint(model, revision or None)
    except ValueError as error:
        said[argument] = str(error)
    else:
        said[argument] = None
offline = constants.is_offline_mode() and os.environ.get("HF_HUB_OFFLINE") == "1"
json.dump({"said": said, "offline": offline}, sys.stdout)
