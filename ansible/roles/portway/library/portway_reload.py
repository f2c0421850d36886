#!/usr/bin/python
"""A daemon reads its configuration anew, and says what came of it."""

import json
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: portway_reload
short_description: Have a daemon read its configuration anew
description:
  - Reloads the service, and waits until the daemon has read its file once more. For roles/portway.
options:
  unit:
    type: str
    required: true
    description: The service.
  role:
    type: str
    required: true
    description: Whose status counts, gateway or host.
  ask:
    type: list
    elements: str
    required: true
    description: The command that prints the status of each daemon as a line of JSON.
  patience_s:
    type: int
    default: 60
    description: Seconds in which it must have read it.
author:
  - The Portway authors
"""

EXAMPLES = """
- name: Reload it
  portway_reload:
    unit: portway-host.service
    role: host
    ask: [portway, status, --json]
"""

RETURN = """
refused:
  type: dict
  returned: always
  description: Why its former configuration stays in force, `why`, and whether a start takes the other one up, `at_start`; or nothing.
"""


def reading(module):
    """How often it has read its file, and what came of it; an older daemon does not say."""
    _, out, _ = module.run_command(module.params["ask"])
    for line in out.splitlines():
        daemon = json.loads(line)
        if daemon.get("role") == module.params["role"] and "error" not in daemon:
            return daemon.get("configuration") or {"times": -1}
    return None


def main():
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "role": {"type": "str", "required": True},
            "ask": {"type": "list", "elements": "str", "required": True},
            "patience_s": {"type": "int", "default": 60},
        },
    )
    before = reading(module) or {"times": 0}
    code, _, err = module.run_command(["systemctl", "reload", module.params["unit"]])
    if code != 0:
        module.fail_json(msg=err.strip())
    until = time.monotonic() + module.params["patience_s"]
    after = reading(module)
    while after is None or -1 < after["times"] <= before["times"]:
        if time.monotonic() > until:
            module.fail_json(msg=f"{module.params['unit']} has not read its configuration within {module.params['patience_s']} s of a SIGHUP")
        time.sleep(0.1)
        after = reading(module)
    module.exit_json(changed=True, refused=after.get("refused") or {})


if __name__ == "__main__":
    main()
