#!/usr/bin/python
"""A configuration with all that belongs to it, in one task: checked first, and either all of it is written or nothing."""

import os

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: portway_files
short_description: A configuration and what belongs to it
description:
  - The configuration is checked before anything is written, in check mode as well. For roles/portway.
options:
  program:
    type: path
    required: true
    description: Who checks the configuration; nobody does where it is not there yet.
  config:
    type: dict
    required: true
    description: The configuration.
    options: &file
      path: { type: path, required: true, description: An absolute path. }
      content: { type: str, required: true, description: What it is to hold. }
  files:
    type: list
    elements: dict
    default: []
    description: Others, of mode 0644.
    options: *file
  secrets:
    type: list
    elements: dict
    default: []
    description: Files of mode 0600, whose content no output shows.
    options: *file
  keep:
    type: list
    elements: path
    default: []
    description: Those of the secrets that may not be replaced by others.
author:
  - The Portway authors
"""

EXAMPLES = """
- name: Write the configuration
  portway_files:
    program: /usr/bin/portway
    config: { path: /etc/portway/host.yaml, content: "{{ text }}" }
"""

RETURN = """
written: { type: list, returned: always, description: "The files that were, or would be, changed." }
"""


class Target:
    """A file as it is to be."""

    def __init__(self, path, content, mode, secret=False):
        self.path, self.content, self.mode, self.secret = path, content, mode, secret
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                self.present = file.read()
            now = os.stat(path)
            self.attributes = (now.st_mode & 0o7777, now.st_uid, now.st_gid) == (mode, 0, 0)
        except FileNotFoundError:
            self.present, self.attributes = None, False

    def differs(self):
        return self.present != self.content or not self.attributes

    def diff(self):
        if self.secret:
            return {"before_header": self.path, "after_header": self.path, "before": "", "after": "(a secret)\n"}
        return {"before_header": self.path, "after_header": self.path, "before": self.present or "", "after": self.content}

    def write(self):
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o755)
        beside = f"{self.path}.new"
        if os.path.exists(beside):
            os.remove(beside)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(self.content)
            os.fchown(file.fileno(), 0, 0)
            os.fchmod(file.fileno(), self.mode)
        os.replace(beside, self.path)


def check(module, config):
    """What is wrong with it is told with line and column."""
    program = module.params["program"]
    if not os.path.exists(program):
        return
    code, out, err = module.run_command([program, "check", "/dev/stdin"], data=config, binary_data=True)
    if code != 0:
        module.fail_json(msg=f"the configuration has faults, nothing was written: {(err or out).strip()}")


def main():
    one = {"path": {"type": "path", "required": True}, "content": {"type": "str", "required": True}}
    secret = {"path": one["path"], "content": {**one["content"], "no_log": True}}
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "config": {"type": "dict", "required": True, "options": one},
            "files": {"type": "list", "elements": "dict", "default": [], "options": one},
            "secrets": {"type": "list", "elements": "dict", "default": [], "options": secret, "no_log": False},
            "keep": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    of = module.params
    secrets = [Target(each["path"], each["content"].strip() + "\n", 0o600, secret=True) for each in of["secrets"]]
    others = [each.path for each in secrets if each.path in of["keep"] and each.present is not None and each.present.strip() != each.content.strip()]
    if others:
        module.fail_json(
            msg=f"{', '.join(others)}: another key is in force than the inventory has for this file. Give a new key a file of its own, "
            "and run playbooks/rotate-keys.yml"
        )
    check(module, of["config"]["content"])
    files = [Target(each["path"], each["content"], 0o644) for each in of["files"]]
    # The configuration last: it names the others.
    targets = [each for each in [*files, *secrets, Target(of["config"]["path"], of["config"]["content"], 0o640)] if each.differs()]
    if not module.check_mode:
        for each in targets:
            each.write()
    module.exit_json(changed=bool(targets), written=[each.path for each in targets], diff=[each.diff() for each in targets])


if __name__ == "__main__":
    main()
