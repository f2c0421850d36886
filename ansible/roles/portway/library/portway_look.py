#!/usr/bin/python
"""What of Portway there is on a machine, in one task."""

import os
import re

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: portway_look
short_description: What of Portway there is on a machine
description:
  - Changes nothing. For roles/portway.
options:
  program:
    type: path
    required: true
    description: Where it is, or is to be.
  unit:
    type: str
    required: true
    description: The service.
  config:
    type: path
    required: true
    description: The file with its configuration.
  modules:
    type: list
    elements: str
    default: []
    description: Kernel modules to be asked for.
author:
  - The Portway authors
"""

EXAMPLES = """
- name: Look what is there
  portway_look:
    program: /usr/bin/portway
    unit: portway-gateway.service
    config: /etc/portway/gateway.yaml
    modules: [ip_gre, tun]
"""

RETURN = """
program: { type: bool, returned: always, description: Whether it is there. }
config: { type: str, returned: always, description: "What is in the file; nothing, if there is none." }
active: { type: bool, returned: always, description: Whether the service runs. }
stale: { type: bool, returned: always, description: Whether what runs is another program than what is installed. }
modules: { type: list, returned: always, description: Those modules that the kernel has. }
unloaded: { type: list, returned: always, description: Those of them that are not loaded. }
"""


def service(module, unit):
    _, out, _ = module.run_command(["systemctl", "show", "--property=ActiveState,MainPID", unit])
    told = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    active, process = told.get("ActiveState") == "active", told.get("MainPID", "0")
    try:
        runs = os.readlink(f"/proc/{process}/exe") if process != "0" else ""
    except OSError:
        runs = ""
    return active, runs.endswith("(deleted)")


def kernel_modules(module, wanted):
    """(those that the kernel has, those of them that are not loaded)"""
    if not wanted:
        return [], []
    _, out, err = module.run_command(["modprobe", "--dry-run", "--verbose", "--all", *wanted])
    there = [name for name in wanted if name not in re.findall(r"Module (\S+) not found", err)]
    would = {os.path.basename(word).split(".ko")[0].replace("-", "_") for word in re.findall(r"^insmod (\S+)", out, re.MULTILINE)}
    return there, [name for name in there if name.replace("-", "_") in would]


def main():
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "config": {"type": "path", "required": True},
            "modules": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        with open(module.params["config"], encoding="utf-8") as file:
            config = file.read()
    except FileNotFoundError:
        config = ""
    active, stale = service(module, module.params["unit"])
    there, unloaded = kernel_modules(module, module.params["modules"])
    module.exit_json(
        changed=False, program=os.path.exists(module.params["program"]), config=config, active=active, stale=stale, modules=there, unloaded=unloaded
    )


if __name__ == "__main__":
    main()
