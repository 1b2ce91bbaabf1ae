#!/usr/bin/env bash
# torch 2.11.0, Python 3.11, seen 2026-11-27.
#
# `torch.nn.modules.module.register_module_forward_hook(hook, with_kwargs=True)` returns a handle whose `remove()`
# removes the hook but not the note that it takes keyword arguments. So after `remove()` torch still believes that
# there is a global hook: every later call of a module that `torch.compile(module)` made warns of global hooks, for
# the rest of the process. A hook without `with_kwargs` leaves nothing, nor does one with `always_call`.
#
# Expected before it was run: after `remove()` nothing is left, as the documentation of the handle says.
#
# Output seen:
#   plain: left behind False, warnings 0
#   always_call: left behind False, warnings 0
#   with_kwargs: left behind True, warnings 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.11.0 numpy
"$folder/venv/bin/python" - <<'PROGRAM' | tee "$folder/out"
import warnings

import torch
from torch.nn.modules import module as modules

for name, arguments in (("plain", {}), ("always_call", {"always_call": True}), ("with_kwargs", {"with_kwargs": True})):
    modules.register_module_forward_hook(lambda *called: None, **arguments).remove()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.compile(torch.nn.Linear(2, 2), backend="eager")(torch.ones(1, 2))
    about_hooks = [each for each in caught if "global hooks" in str(each.message)]
    print(f"{name}: left behind {bool(modules._has_any_global_hook())}, warnings {len(about_hooks)}")
PROGRAM
diff "$folder/out" - <<'SEEN'
plain: left behind False, warnings 0
always_call: left behind False, warnings 0
with_kwargs: left behind True, warnings 1
SEEN
